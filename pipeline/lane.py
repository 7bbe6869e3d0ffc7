"""One shard session's way through the stage: its window, its writers, and how far it is durable.

Pure bookkeeping: no I/O, no clock, no waiting.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import takewhile
from operator import attrgetter

from pipeline.aggregate import Aggregate, aggregates_in
from pipeline.kpl import HashRange
from pipeline.record import Position, Record, Run, Shard, weight

_OUTCOME = attrgetter("outcome")


class Waiting:
    """What a shard session was handed and has not taken in: plain records, and aggregates, which are whole until then.

    ``records`` counts the user records of aggregates; ``bytes`` is what all of it holds in memory. ``beyond``: what
    lies up to there is passed over. ``within``: the shard's hash keys, if they are known. ``misplaced``: aggregates of
    which a user record that was taken belongs to another shard, each once; whoever tells of them clears it.
    """

    def __init__(self) -> None:
        self.records = 0
        self.bytes = 0
        self.beyond: Position | None = None
        self.within: HashRange | None = None
        self.misplaced: list[Position] = []
        self._parcels: deque[Aggregate | tuple[Sequence[Record], int]] = deque()
        """Plain records with their weight."""

    def __bool__(self) -> bool:
        return bool(self._parcels)

    @property
    def first(self) -> Record:
        head = self._parcels[0]
        return head if isinstance(head, Aggregate) else head[0][0]

    def put(self, records: Sequence[Record]) -> int:
        """Take records that follow those before, in sequence order; how many there are, user records counted."""
        before = self.records
        begin = 0
        for place in aggregates_in(records):
            self._put_plain(records[begin:place])
            self._put_aggregate(records[place])
            begin = place + 1
        self._put_plain(records[begin:] if begin else records)
        return self.records - before

    def take(self, most: int, most_bytes: int) -> list[Record]:
        """What comes next: plain records as they are, and of aggregates about as much as there is room for. Nothing if
        there is room for nothing, or if all of it was to be passed over."""
        taken: list[Record] = []
        held = 0
        while self._parcels:
            head = self._parcels[0]
            if isinstance(head, Aggregate):
                if len(taken) >= most or held >= most_bytes:
                    break
                self.records -= head.skip(self.beyond) if head.left == head.count else 0
                piece = self._of(head, most - len(taken), most_bytes - held) if head.left else []
                self.records -= len(piece)
                held += weight(piece)
                taken += piece
                if not head.left:
                    self._parcels.popleft()
                    self.bytes -= head.weight
            else:
                self._parcels.popleft()
                records, held_before = head
                self.records -= len(records)
                self.bytes -= held_before
                taken += after(self.beyond, records)
        return taken

    def clear(self) -> None:
        self._parcels.clear()
        self.records = self.bytes = 0

    def _of(self, head: Aggregate, most: int, most_bytes: int) -> list[Record]:
        message = head.message
        message.within, before = self.within, message.misplaced
        piece = head.take(most, most_bytes)
        if message.misplaced and not before:
            self.misplaced.append(head.position)
        return piece

    def _put_plain(self, records: Sequence[Record]) -> None:
        if records:
            held = weight(records)
            self._parcels.append((records, held))
            self.records += len(records)
            self.bytes += held

    def _put_aggregate(self, record: Record) -> None:
        assert isinstance(record, Aggregate)
        self._parcels.append(record)
        self.records += record.count
        self.bytes += record.weight


class Window:
    """What a shard session has admitted and not yet released, in sequence order.

    Records settle in any order; :meth:`release` hands out the longest settled prefix, once.
    """

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.bytes = 0
        self._records: deque[Record] = deque()

    def __len__(self) -> int:
        return len(self._records)

    def extend(self, records: Sequence[Record]) -> None:
        """Admit records, which must follow the last ones in sequence order."""
        self._records.extend(records)
        self.bytes += weight(records)

    def release(self, *, keep_payloads: bool = False) -> Run | None:
        """The longest settled prefix, or None if the head is still open. The records' payloads are dropped, or kept
        beside them in the run."""
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
        self._records.clear()
        self.bytes = 0


class Durability:
    """How far a shard is durable: the least of what its sinks report.

    Positions only rise. A sink that has not reported yet holds everything back.
    """

    def __init__(self, sinks: Sequence[str]) -> None:
        self._reached: dict[str, Position | None] = dict.fromkeys(sinks)
        self.position: Position | None = None

    def reached(self, sink: str, position: Position) -> bool:
        """Note a sink's report; true if the shard as a whole got further by it."""
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


def after(held: Position | None, records: Sequence[Record]) -> Sequence[Record]:
    """The records beyond ``held``, of records in sequence order."""
    if held is None or not records or records[0].position > held:
        return records
    return records[bisect_right(records, held, key=attrgetter("position")) :]


class Milestones:
    """How many records lie behind a moving position: what was passed counts once."""

    def __init__(self) -> None:
        self._ahead: deque[tuple[Position, int]] = deque()

    def add(self, end: Position, records: int) -> None:
        self._ahead.append((end, records))

    def passed(self, position: Position) -> int:
        """Records of the stretches that end at or below ``position`` and were not counted before."""
        count = 0
        while self._ahead and self._ahead[0][0] <= position:
            count += self._ahead.popleft()[1]
        return count
