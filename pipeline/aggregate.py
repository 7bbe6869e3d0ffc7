"""A KPL aggregate on its way through the stage: one record until there is room for its user records.

A user record's position is the aggregate's sequence number and its index in the aggregate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline import kpl
from pipeline.record import RECORD_BYTES, Dead, Position, Record

KIND = "aggregate"
"""Kind of the dead letters that are made here."""


class Aggregate(Record):
    """A Kinesis record that holds ``count`` user records. :meth:`take` returns each of them once, in order."""

    __slots__ = ("_taken", "_users", "message")

    def __init__(self, record: Record, message: kpl.AggregateMessage) -> None:
        super().__init__(
            record.shard_id, record.data, record.partition_key, record.sequence, 0, record.arrived_ms, False
        )
        self.message = message
        self._taken = 0
        self._users: Iterator[tuple[bytes, str | None, int, str]] | None = None

    @property
    def count(self) -> int:
        """How many user records it holds."""
        return self.message.count

    @property
    def left(self) -> int:
        """How many user records were neither taken nor skipped."""
        return self.message.count - self._taken

    @property
    def last(self) -> Position:
        """The position of its last user record."""
        return Position(int(self.sequence), self.message.count - 1)

    @property
    def weight(self) -> int:
        """Bytes that it uses in memory, besides the user records that were taken."""
        return RECORD_BYTES + self.message.weight

    def skip(self, beyond: Position | None) -> int:
        """Skip the user records up to a position. Return how many. Call it only before the first :meth:`take`."""
        if beyond is not None and not self._taken:
            sequence = int(self.sequence)
            reached = self.count if sequence < beyond.sequence else beyond.sub + 1 if sequence == beyond.sequence else 0
            self._taken = min(self.count, reached)
        return self._taken

    def take(self, most: int, most_bytes: int) -> list[Record]:
        """Return the next user records, at most ``most``; stop once they use ``most_bytes`` or more."""
        if self._users is None:
            self._users = self.message.users(self._taken)
        taken: list[Record] = []
        shard_id, sequence, arrived_ms, sub = self.shard_id, self.sequence, self.arrived_ms, self._taken
        last, stop = self.count - 1, min(self.count, sub + most)
        held = 0
        for data, key, key_bytes, fault in self._users:
            record = Record(shard_id, data, key, sequence, sub, arrived_ms, sub == last, 1, None, key_bytes)
            if fault:
                record.settle(Dead(data, fault, "", 0, KIND))
            taken.append(record)
            sub += 1
            held += RECORD_BYTES + key_bytes + len(data)
            if sub >= stop or held >= most_bytes:
                break
        self._taken = sub
        return taken


def aggregates_in(records: Sequence[Record]) -> list[int]:
    """Return the indices of aggregates. Fast if there are none, as in most messages."""
    if Aggregate not in set(map(type, records)):
        return []
    return [place for place, record in enumerate(records) if type(record) is Aggregate]


def aggregate_or_record(record: Record) -> Record:
    """Return the aggregate that a Kinesis record holds, or the record itself.

    An aggregate that cannot be read is settled: it becomes a dead letter as a whole.
    """
    try:
        message = kpl.message(record.data)
    except kpl.Malformed as error:
        record.settle(Dead(record.data, f"it is a KPL aggregate that cannot be read: {error}", "", 0, KIND))
        return record
    return record if message is None else Aggregate(record, message)
