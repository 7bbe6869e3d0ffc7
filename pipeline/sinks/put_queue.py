"""What a Kinesis sink sends next, given what was accepted and what was refused. Pure: no I/O, no clock.

Kinesis promises no order within a PutRecords call, and takes the later records of a call whose earlier ones it refuses
(API reference, PutRecords). So no two records of a key are ever in flight together: a call holds one record per key,
and a record that was refused holds back the later ones of its key, and of no other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.record import Position

REQUEST_ROWS = 500
"""The most that PutRecords takes (API model)."""

REQUEST_BYTES = 5 * 1024 * 1024
"""Of data and keys, in a call of more than one row: a larger row goes alone, and a stream's largest has the 10 MiB that
PutRecords takes. It took 5 MiB for years, and emulators do."""


@dataclass(frozen=True, slots=True)
class Row:
    """One record as it is sent. ``place`` counts the rows of this outbox; ``origin`` is the caller's own."""

    place: int
    key: str
    data: bytes
    origin: Any = None
    size_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size_bytes", len(self.data) + len(self.key.encode()))


class OrderedPutQueue:
    """One shard session's rows on their way to a stream.

    Guarantees: a row is handed out by :meth:`take` only when every earlier row of its key was accepted; a row is
    handed out again until it is accepted; ``durable`` passes a record only when its row and all before were accepted.
    """

    def __init__(self, *, request_rows: int = REQUEST_ROWS, request_bytes: int = REQUEST_BYTES) -> None:
        self.bytes = 0
        self.durable: Position | None = None
        self._request_rows = request_rows
        self._request_bytes = request_bytes
        self._queues: dict[str, deque[Row]] = {}
        self._ready: deque[str] = deque()
        self._rows = 0
        self._accepted: set[int] = set()
        self._accepted_below = 0
        self._milestones: deque[tuple[Position, int]] = deque()

    def __len__(self) -> int:
        """Rows not yet accepted."""
        return self._rows - self._accepted_below - len(self._accepted)

    def put(self, position: Position, row: tuple[str, bytes] | None, *, origin: object = None) -> None:
        """Take the next record in sequence order: its key and data, or None if it is dead and has no row."""
        if row is not None:
            self._enqueue(Row(self._rows, *row, origin))
        self._milestones.append((position, self._rows))
        self._advance()

    def take(self, most: int = REQUEST_ROWS) -> list[Row]:
        """The next call's rows, one per key, oldest key first; none if all that is left waits for an answer.

        Every list must come back through :meth:`settle`.
        """
        request: list[Row] = []
        size_bytes = 0
        while self._ready and len(request) < min(most, self._request_rows):
            row = self._queues[self._ready[0]][0]
            if request and size_bytes + row.size_bytes > self._request_bytes:
                break
            self._ready.popleft()
            request.append(row)
            size_bytes += row.size_bytes
        return request

    def settle(self, request: Sequence[Row], accepted: Sequence[bool]) -> None:
        """The answer to a call, row by row: what is done with, and what is first in the next one."""
        refused: list[str] = []
        for row, was_accepted in zip(request, accepted, strict=True):
            if was_accepted:
                self._accept(row)
            else:
                refused.append(row.key)
        self._ready.extendleft(reversed(refused))
        self._advance()

    def _enqueue(self, row: Row) -> None:
        self._rows += 1
        self.bytes += row.size_bytes
        if row.key in self._queues:
            self._queues[row.key].append(row)
        else:
            self._queues[row.key] = deque([row])
            self._ready.append(row.key)

    def _accept(self, row: Row) -> None:
        self._accepted.add(row.place)
        self.bytes -= row.size_bytes
        queue = self._queues[row.key]
        queue.popleft()
        if queue:
            self._ready.append(row.key)
        else:
            del self._queues[row.key]

    def _advance(self) -> None:
        while self._accepted_below in self._accepted:
            self._accepted.remove(self._accepted_below)
            self._accepted_below += 1
        while self._milestones and self._milestones[0][1] <= self._accepted_below:
            self.durable = self._milestones.popleft()[0]
