"""The rate limits of a shard: token buckets. The caller passes the time.

Source of the numbers: the quotas of Kinesis Data Streams and the API reference of GetRecords, PutRecords and
GetShardIterator.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MIB = 2**20
WRITE_BYTES_PER_S = MIB
WRITE_RECORDS_PER_S = 1000
READ_BYTES_PER_S = 2 * MIB
READS_PER_S = 5
ITERATORS_PER_S = 5

PUT_RECORDS_MAX_BYTES = 10 * MIB
GET_RECORDS_MAX_BYTES = 10 * MIB
GET_RECORDS_MAX_RECORDS = 10_000
SHARDS_PER_ACCOUNT = 20_000
SHARDS_PER_UPDATE = 10_000
UPDATES_PER_DAY = 10
CONSUMERS_PER_STREAM = 20
CONSUMERS_CREATING = 5
TAGS_PER_STREAM = 50


@dataclass(slots=True)
class TokenBucket:
    """A token bucket. It starts full, holds the tokens of one second, and refills continuously."""

    per_s: float
    level: float = field(init=False)
    at_ms: int = 0

    def __post_init__(self) -> None:
        self.level = self.per_s

    def holds(self, amount: float, now_ms: int) -> bool:
        """Whether ``amount`` may be taken now. A full bucket allows any amount; its level may then be negative."""
        if now_ms > self.at_ms:
            self.level = min(self.per_s, self.level + (now_ms - self.at_ms) / 1000 * self.per_s)
            self.at_ms = now_ms
        return self.level >= min(amount, self.per_s)

    def take(self, amount: float) -> None:
        """Take ``amount``, which may leave the bucket below 0."""
        self.level -= amount


class ShardLimits:
    """The limits of one shard. A method that returns a bool says whether the call is allowed, and if so counts it."""

    __slots__ = ("_iterators", "_read_bytes", "_reads", "_write_bytes", "_write_records")

    def __init__(self) -> None:
        self._write_bytes = TokenBucket(WRITE_BYTES_PER_S)
        self._write_records = TokenBucket(WRITE_RECORDS_PER_S)
        self._read_bytes = TokenBucket(READ_BYTES_PER_S)
        self._reads = TokenBucket(READS_PER_S)
        self._iterators = TokenBucket(ITERATORS_PER_S)

    def write(self, size: int, now_ms: int) -> bool:
        """One record of ``size`` bytes, key included."""
        if not (self._write_records.holds(1, now_ms) and self._write_bytes.holds(size, now_ms)):
            return False
        self._write_records.take(1)
        self._write_bytes.take(size)
        return True

    def read(self, now_ms: int) -> bool:
        """One GetRecords call. :meth:`was_read` then counts its bytes, which may exceed what the bucket holds."""
        if not (self._reads.holds(1, now_ms) and self._read_bytes.holds(1, now_ms)):
            return False
        self._reads.take(1)
        return True

    def was_read(self, size: int) -> None:
        """Count the bytes that a GetRecords call returned."""
        self._read_bytes.take(size)

    def iterator(self, now_ms: int) -> bool:
        """Count one GetShardIterator call. Returns False if it exceeds the limit."""
        if not self._iterators.holds(1, now_ms):
            return False
        self._iterators.take(1)
        return True
