"""What a shard session has received and not taken in. Bookkeeping only: no I/O, no clock, no waiting."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from operator import attrgetter

from pipeline.aggregate import Aggregate, aggregates_in
from pipeline.hash_keys import HashRange
from pipeline.record import Position, Record, weight


class Waiting:
    """What a shard session has received and not taken in: plain records, and aggregates, which stay whole until then.

    ``records`` includes the user records of aggregates; ``bytes`` is the memory of everything. ``beyond``: records up
    to this position are skipped. ``within``: the shard's hash keys, if known. ``misplaced``: aggregates of which a user
    record that was taken belongs to another shard, each once; the code that reports them clears it.
    """

    def __init__(self) -> None:
        self.records = 0
        self.bytes = 0
        self.beyond: Position | None = None
        self.within: HashRange | None = None
        self.misplaced: list[Position] = []
        self._parcels: deque[Aggregate | tuple[Sequence[Record], int]] = deque()
        """Aggregates, and plain records with their memory."""

    def __bool__(self) -> bool:
        return bool(self._parcels)

    @property
    def first(self) -> Record:
        """The oldest record; an aggregate is one record here. ``IndexError`` if nothing waits."""
        head = self._parcels[0]
        return head if isinstance(head, Aggregate) else head[0][0]

    def put(self, records: Sequence[Record]) -> int:
        """Add records that follow those before, in sequence order. Return how many there are, user records included."""
        before = self.records
        begin = 0
        for place in aggregates_in(records):
            self._put_plain(records[begin:place])
            self._put_aggregate(records[place])
            begin = place + 1
        self._put_plain(records[begin:] if begin else records)
        return self.records - before

    def take(self, most: int, most_bytes: int) -> list[Record]:
        """Return the next records: plain records, and user records of aggregates as far as there is room.

        Empty if there is no room, or if all of them were to be skipped.
        """
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
        """Drop everything: the lease is lost."""
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


def after(held: Position | None, records: Sequence[Record]) -> Sequence[Record]:
    """Return the records after ``held``; the input is in sequence order."""
    if held is None or not records or records[0].position > held:
        return records
    return records[bisect_right(records, held, key=attrgetter("position")) :]
