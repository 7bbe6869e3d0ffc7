"""Decides what a Kinesis sink sends next, given which rows were accepted. Pure: no I/O, no clock.

Kinesis guarantees no order within a PutRecords call, and may accept later records of a call whose earlier ones it
refuses (API reference, PutRecords). So two records of a key are never in flight together: a call has at most one record
for each key. A refused record holds back later ones of its own key only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.record import Position

REQUEST_ROWS = 500
"""The most records that PutRecords accepts (API model)."""

REQUEST_BYTES = 5 * 1024 * 1024
"""The most bytes of data and keys in a call of several rows; a larger row goes alone. PutRecords accepts 10 MiB, the
size of a stream's largest record, but accepted only 5 MiB for years, and emulators still do.
"""


@dataclass(frozen=True, slots=True)
class QueuedRow:
    """One record as it is sent. ``place`` counts the rows of this queue; ``origin`` is the caller's object."""

    place: int
    key: str
    data: bytes
    origin: Any = None
    size_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size_bytes", len(self.data) + len(self.key.encode()))


class OrderedPutQueue:
    """One shard session's rows on their way to a stream.

    Guarantees: :meth:`take` returns a row only after every earlier row of its key was accepted. A row is returned again
    until it is accepted. ``durable`` passes a record only when its row and all earlier ones were accepted.
    """

    def __init__(self, *, request_rows: int = REQUEST_ROWS, request_bytes: int = REQUEST_BYTES) -> None:
        self.bytes = 0
        self.durable: Position | None = None
        self._request_rows = request_rows
        self._request_bytes = request_bytes
        self._queues: dict[str, deque[QueuedRow]] = {}
        self._ready: deque[str] = deque()
        self._rows = 0
        self._accepted: set[int] = set()
        self._accepted_below = 0
        self._milestones: deque[tuple[Position, int]] = deque()

    def __len__(self) -> int:
        """How many rows are not accepted yet."""
        return self._rows - self._accepted_below - len(self._accepted)

    def put(self, position: Position, row: tuple[str, bytes] | None, *, origin: object = None) -> None:
        """Add the next record in sequence order: its key and data, or None if it is dead and has no row."""
        if row is not None:
            self._enqueue(QueuedRow(self._rows, *row, origin))
        self._milestones.append((position, self._rows))
        self._advance()

    def take(self, most: int = REQUEST_ROWS) -> list[QueuedRow]:
        """Return the next call's rows, at most one for each key, oldest key first; none if all remaining rows wait for
        an answer.

        Every list must be passed to :meth:`settle`.
        """
        request: list[QueuedRow] = []
        size_bytes = 0
        while self._ready and len(request) < min(most, self._request_rows):
            row = self._queues[self._ready[0]][0]
            if request and size_bytes + row.size_bytes > self._request_bytes:
                break
            self._ready.popleft()
            request.append(row)
            size_bytes += row.size_bytes
        return request

    def settle(self, request: Sequence[QueuedRow], accepted: Sequence[bool]) -> None:
        """Process the answer to a call: accepted rows are done, the others come first in the next call."""
        refused: list[str] = []
        for row, was_accepted in zip(request, accepted, strict=True):
            if was_accepted:
                self._accept(row)
            else:
                refused.append(row.key)
        self._ready.extendleft(reversed(refused))
        self._advance()

    def _enqueue(self, row: QueuedRow) -> None:
        self._rows += 1
        self.bytes += row.size_bytes
        if row.key in self._queues:
            self._queues[row.key].append(row)
        else:
            self._queues[row.key] = deque([row])
            self._ready.append(row.key)

    def _accept(self, row: QueuedRow) -> None:
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
