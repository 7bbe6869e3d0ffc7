"""One shard: its records in order, its parents and its children."""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter
from typing import Any, NamedTuple

from consumer.local.kinesis import sequence
from consumer.local.kinesis.hash_ranges import KeyRange
from consumer.local.kinesis.limits import ShardLimits


class Stored(NamedTuple):
    """A stored record. ``partition_key`` is None for streams that distribute records by themselves."""

    sequence: str
    arrived_ms: int
    data: bytes
    partition_key: str | None


class LocalShard:
    """Records by position. Positions count from 1 without gaps; ``first`` is that of the oldest record.

    Arrival times never decrease, even if the clock does. A closed shard keeps its records until they expire.
    """

    def __init__(self, index: int, keys: KeyRange, epoch_s: int, opened_ms: int, parents: tuple[str, ...]) -> None:
        self.index = index
        self.shard_id = f"shardId-{index:012d}"
        self.keys = keys
        self.epoch_s = epoch_s
        self.opened_ms = opened_ms
        self.closed_ms: int | None = None
        self.parents = parents
        self.children: list[LocalShard] = []
        self.limits = ShardLimits()
        self.first = 1
        self._records: list[Stored] = []
        self._prefix = sequence.prefix(epoch_s, index)
        self._last_ms = opened_ms

    @property
    def is_open(self) -> bool:
        """Whether the shard takes records: no split or merge has closed it."""
        return self.closed_ms is None

    @property
    def end(self) -> int:
        """The position after the last record, which the next record gets."""
        return self.first + len(self._records)

    def append(self, data: bytes, partition_key: str | None, now_ms: int) -> str:
        """Store a record and return its sequence number."""
        arrived_ms = self._last_ms = max(now_ms, self._last_ms)
        number = sequence.number(self._prefix, self.end, arrived_ms // 1000)
        self._records.append(Stored(number, arrived_ms, data, partition_key))
        return number

    def read(self, position: int, max_records: int, max_bytes: int) -> list[Stored]:
        """Return the records from ``position`` on: at most ``max_bytes`` of data, but at least one record if any."""
        offset = max(position - self.first, 0)
        found = self._records[offset : offset + max_records]
        size = 0
        for count, record in enumerate(found):
            size += len(record.data)
            if size > max_bytes and count:
                return found[:count]
        return found

    def behind_ms(self, position: int, now_ms: int) -> int:
        """Return the age of the record at ``position`` in milliseconds, at least 1; 0 if there is none."""
        offset = max(position - self.first, 0)
        return max(now_ms - self._records[offset].arrived_ms, 1) if offset < len(self._records) else 0

    def position_at(self, timestamp_ms: int) -> int:
        """Return the position of the first record that arrived at this time or later."""
        return self.first + bisect_left(self._records, timestamp_ms, key=attrgetter("arrived_ms"))

    def trim(self, horizon_ms: int) -> None:
        """Remove the records that arrived before ``horizon_ms``."""
        if self._records and self._records[0].arrived_ms < horizon_ms:
            count = self.position_at(horizon_ms) - self.first
            del self._records[:count]
            self.first += count

    def expired(self, horizon_ms: int) -> bool:
        """Whether the shard itself has expired: it was closed before ``horizon_ms``."""
        return self.closed_ms is not None and self.closed_ms < horizon_ms

    def close(self, now_ms: int) -> None:
        """Take no more records. Those that are stored stay readable."""
        self.closed_ms = now_ms

    def position_of(self, sequence_number: str) -> int:
        """Return the position of a sequence number.

        :raises ValueError: if it is not a sequence number of this shard.
        """
        place = sequence.parse(sequence_number)
        known = place.position < self.end or (place.position == sequence.LAST_POSITION and not self.is_open)
        if (place.epoch_s, place.shard_index) != (self.epoch_s, self.index) or not known:
            raise ValueError(f"{sequence_number} is not of {self.shard_id}")
        return min(place.position, self.end)

    def number_before(self, position: int, now_ms: int) -> str:
        """Return a sequence number just before the record at ``position``, which need not exist yet."""
        return sequence.number(self._prefix, position - 1, max(now_ms, self._last_ms) // 1000)

    def to_dict(self) -> dict[str, Any]:
        """Return the shard as ListShards and DescribeStream show it."""
        numbers = {"StartingSequenceNumber": sequence.number(self._prefix, 0, self.epoch_s)}
        if self.closed_ms is not None:
            closed_s = max(self.closed_ms, self._last_ms) // 1000
            numbers["EndingSequenceNumber"] = sequence.number(self._prefix, sequence.LAST_POSITION, closed_s)
        names = dict(zip(("ParentShardId", "AdjacentParentShardId"), self.parents, strict=False))
        return {
            "ShardId": self.shard_id,
            **names,
            "HashKeyRange": self.keys.to_dict(),
            "SequenceNumberRange": numbers,
        }

    def to_child(self) -> dict[str, Any]:
        """Return the shard as ``ChildShards`` of GetRecords shows it."""
        return {
            "ShardId": self.shard_id,
            "ParentShards": list(self.parents),
            "HashKeyRange": self.keys.to_dict(),
        }
