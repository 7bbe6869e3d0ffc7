"""One shard session's way through the stage: its window, its writers, and how far it is durable.

Bookkeeping only: no I/O, no clock, no waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import takewhile
from operator import attrgetter

from pipeline.dead_letters.gate import Gate
from pipeline.dead_letters.limit import NO_LIMITS, Limits
from pipeline.flow.waiting import Waiting
from pipeline.record import Position, Record, Run, Shard, weight
from pipeline.sinks import ShardWriter

_OUTCOME = attrgetter("outcome")

BEHIND_MS = 1_000
"""A shard with a larger lag is behind: more of its records will come soon."""


class Lane:
    """One shard session's way through the stage. Its session reads it; only the stage changes it."""

    def __init__(
        self, shard: Shard, checkpoint: Position | None, sinks: Sequence[str], limits: Limits | None = None
    ) -> None:
        """``sinks``: names of the sinks that must have a record for it to be durable. ``limits``: on dead letters."""
        self.shard = shard
        self.checkpoint = checkpoint
        self.window = Window(shard)
        self.gate = Gate(shard, limits or NO_LIMITS)
        self.durability = Durability(sinks)
        self.writers: list[ShardWriter] = []
        self.changed = asyncio.Event()
        """Set when there may be more room, or more of the lane is durable."""
        self.ending = False
        """No more records come: everything that waits for a batch is due."""
        self.judging = 0
        """How many batches with records of the lane the model has now."""
        self.lag_ms = 0
        self.waiting = Waiting()
        self.fed = asyncio.Event()
        self.before_entry: Callable[[Record], Awaitable[None]] | None = None
        """Awaited before user records enter, with the last of them."""
        self.entering = 0
        """How many records were taken from those that wait and are not in the window yet."""
        self.released = Milestones()
        self.task: asyncio.Task[None] | None = None

    @property
    def durable(self) -> Position | None:
        """Everything up to this position is durable in every sink, or in the dead letters."""
        return self.durability.position

    @property
    def behind(self) -> bool:
        """Whether more records of the shard will come soon."""
        return self.lag_ms > BEHIND_MS

    @property
    def unsettled(self) -> int:
        """How many admitted records have no row or dead letter yet; user records of aggregates are counted."""
        return self.waiting.records + self.entering + len(self.window)

    @property
    def oldest_ms(self) -> int | None:
        """When the oldest record that is not settled arrived, in epoch ms; None if there is none."""
        first = self.window.first or (self.waiting.first if self.waiting else None)
        return None if first is None else first.arrived_ms

    @property
    def not_durable(self) -> int:
        """How many admitted records are not durable in every sink: unsettled, held back, or in the sinks."""
        return self.unsettled + len(self.gate) + self.released.records

    @property
    def oldest_not_durable_ms(self) -> int | None:
        """When the oldest record that is not durable arrived, in epoch ms; None if there is none."""
        for found in (self.released.oldest_ms, self.gate.oldest_ms):
            if found is not None:
                return found
        return self.oldest_ms

    @property
    def bytes(self) -> int:
        """Bytes of everything admitted that is not durable yet."""
        return self.waiting.bytes + self.taken_bytes

    @property
    def taken_bytes(self) -> int:
        """Bytes of everything that was taken in: in the window, held back, or in the sinks."""
        return self.window.bytes + self.gate.bytes + sum(writer.backlog_bytes for writer in self.writers)


class Window:
    """What a shard session has admitted and not yet released, in sequence order.

    Records settle in any order; :meth:`release` returns the longest settled prefix, once.
    """

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.bytes = 0
        self._records: deque[Record] = deque()

    def __len__(self) -> int:
        return len(self._records)

    @property
    def first(self) -> Record | None:
        """The oldest; None if there is none."""
        return self._records[0] if self._records else None

    def extend(self, records: Sequence[Record]) -> None:
        """Add records, which must follow the last ones in sequence order."""
        self._records.extend(records)
        self.bytes += weight(records)

    def release(self, *, keep_payloads: bool = False) -> Run | None:
        """Return the longest settled prefix, or None if the first record is not settled.

        Payloads are dropped, or kept in the run if ``keep_payloads``.
        """
        settled = list(takewhile(_OUTCOME, self._records))
        if not settled:
            return None
        payloads = [record.data for record in settled] if keep_payloads else []
        self.bytes -= weight(settled)
        for record in settled:
            record.data = b""
        if len(settled) == len(self._records):
            self._records.clear()
        else:
            pop = self._records.popleft
            for _ in settled:
                pop()
        return Run(self.shard, settled, payloads)

    def clear(self) -> None:
        """Drop everything: the lease is lost."""
        self._records.clear()
        self.bytes = 0


class Durability:
    """How far a shard is durable: the lowest position that its sinks report.

    Positions only rise. A sink that has not reported yet holds everything back.
    """

    def __init__(self, sinks: Sequence[str]) -> None:
        self._reached: dict[str, Position | None] = dict.fromkeys(sinks)
        self.position: Position | None = None

    def reached(self, sink: str, position: Position) -> bool:
        """Note a sink's report. Return True if the whole shard's position has risen."""
        before = self._reached[sink]
        if before is not None and position <= before:
            return False
        self._reached[sink] = position
        least = self._least()
        if least is None or (self.position is not None and least <= self.position):
            return False
        self.position = least
        return True

    def _least(self) -> Position | None:
        positions = [position for position in self._reached.values() if position is not None]
        return min(positions) if len(positions) == len(self._reached) else None


class Milestones:
    """Counts the records that a rising position has passed, each once."""

    def __init__(self) -> None:
        self._ahead: deque[tuple[Position, int, int | None]] = deque()
        self.records = 0
        """How many were noted and not passed yet."""

    @property
    def oldest_ms(self) -> int | None:
        """``arrived_ms`` of the first range that was not passed; None if there is none."""
        return self._ahead[0][2] if self._ahead else None

    def add(self, end: Position, records: int, arrived_ms: int | None = None) -> None:
        """Note that the next ``records`` records end at ``end``. ``arrived_ms``: when the first of them arrived."""
        self._ahead.append((end, records, arrived_ms))
        self.records += records

    def passed(self, position: Position) -> int:
        """Return the records of all ranges that end at or below ``position`` and were not counted before."""
        count = 0
        while self._ahead and self._ahead[0][0] <= position:
            count += self._ahead.popleft()[1]
        self.records -= count
        return count
