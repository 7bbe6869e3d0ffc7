"""An aggregate on its way through the stage: one record until there is room for what it holds, then taken apart.

A user record's position is the aggregate's sequence number and its index in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline import kpl
from pipeline.record import RECORD_BYTES, Dead, Position, Record

KIND = "aggregate"
"""Of the dead letters that are made here."""


class Aggregate(Record):
    """A Kinesis record that holds ``count`` user records. :meth:`take` hands them out, each once, in their order."""

    __slots__ = ("_taken", "_users", "message")

    def __init__(self, record: Record, message: kpl.Message) -> None:
        super().__init__(
            record.shard_id, record.data, record.partition_key, record.sequence, 0, record.arrived_ms, False
        )
        self.message = message
        self._taken = 0
        self._users: Iterator[tuple[bytes, str | None, int, str]] | None = None

    @property
    def count(self) -> int:
        """User records in all, taken or not."""
        return self.message.count

    @property
    def left(self) -> int:
        """User records that were neither taken nor skipped."""
        return self.message.count - self._taken

    @property
    def last(self) -> Position:
        """The position of its last user record."""
        return Position(int(self.sequence), self.message.count - 1)

    @property
    def weight(self) -> int:
        """What it holds in memory, in bytes, beside the user records that were taken."""
        return RECORD_BYTES + self.message.weight

    def skip(self, beyond: Position | None) -> int:
        """Pass over the user records up to a position; how many these are. Only before the first was taken."""
        if beyond is not None and not self._taken:
            sequence = int(self.sequence)
            reached = self.count if sequence < beyond.sequence else beyond.sub + 1 if sequence == beyond.sequence else 0
            self._taken = min(self.count, reached)
        return self._taken

    def take(self, most: int, most_bytes: int) -> list[Record]:
        """The next user records, at most so many; and no more once they hold ``most_bytes`` or more."""
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
    """Their places. Quick where there is none, as in most messages."""
    if Aggregate not in set(map(type, records)):
        return []
    return [place for place, record in enumerate(records) if type(record) is Aggregate]


def looked_into(record: Record) -> Record:
    """The aggregate that a Kinesis record is, or the record itself. One that cannot be read is a dead letter, whole."""
    try:
        message = kpl.message(record.data)
    except kpl.Malformed as error:
        record.settle(Dead(record.data, f"it is an aggregate of the KPL that cannot be read: {error}", "", 0, KIND))
        return record
    return record if message is None else Aggregate(record, message)
