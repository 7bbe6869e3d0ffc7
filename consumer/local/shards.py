"""One shard: its range of hash keys, its records in order, and its limits."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from consumer.local import sequence

HASH_KEYS = 1 << 128
"""Hash keys are MD5 sums: 0 … 2^128 - 1."""

MIB = 1 << 20
WRITE_BYTES_S, WRITE_RECORDS_S = MIB, 1000
READ_BYTES_S, READ_CALLS_S = 2 * MIB, 5
READ_MAX_BYTES, READ_MAX_RECORDS = 10 * MIB, 10_000


class Record(NamedTuple):
    sequence_number: str
    arrival_ms: int
    partition_key: str
    data: bytes

    @property
    def size(self) -> int:
        """What AWS counts against its limits: data and key, in bytes."""
        return len(self.data) + len(self.partition_key.encode())


@dataclass(slots=True)
class Bucket:
    """A token bucket that holds one second of ``rate``.

    A cost above the whole bucket passes when the bucket is full, and is paid back afterwards: a record of 10 MiB is
    legal at 1 MiB/s.
    """

    rate: float
    tokens: float
    at_s: float

    @classmethod
    def full(cls, rate: float, now_s: float) -> Bucket:
        return cls(rate, rate, now_s)

    def has(self, cost: float, now_s: float) -> bool:
        self.tokens = min(self.rate, self.tokens + max(0.0, now_s - self.at_s) * self.rate)
        self.at_s = max(self.at_s, now_s)
        return self.tokens >= min(cost, self.rate) - 1e-6

    def take(self, cost: float) -> None:
        self.tokens -= cost


@dataclass(slots=True)
class Rates:
    """What a shard may still take and give this second."""

    write_bytes: Bucket
    write_records: Bucket
    read_bytes: Bucket
    read_calls: Bucket

    @classmethod
    def full(cls, now_s: float) -> Rates:
        return cls(
            Bucket.full(WRITE_BYTES_S, now_s),
            Bucket.full(WRITE_RECORDS_S, now_s),
            Bucket.full(READ_BYTES_S, now_s),
            Bucket.full(READ_CALLS_S, now_s),
        )

    def may_write(self, size: int, now_s: float) -> bool:
        """Whether a record of this size may be written, which takes it from the rates."""
        if not (self.write_bytes.has(size, now_s) and self.write_records.has(1, now_s)):
            return False
        self.write_bytes.take(size)
        self.write_records.take(1)
        return True

    def may_read(self, now_s: float) -> bool:
        """Whether a read may begin. What it reads is taken afterwards, as AWS does: a big read silences the next."""
        if not (self.read_calls.has(1, now_s) and self.read_bytes.has(0, now_s)):
            return False
        self.read_calls.take(1)
        return True


@dataclass(slots=True)
class Shard:
    """A shard. Its records have the counts ``first_count`` … ``next_count - 1``, without gaps."""

    index: int
    start: int
    end: int
    opened_ms: int
    rates: Rates
    parents: tuple[str, ...] = ()
    closed_ms: int | None = None
    records: list[Record] = field(default_factory=list)
    first_count: int = 1
    next_count: int = 1
    children: tuple[str, ...] = ()

    @property
    def shard_id(self) -> str:
        return f"shardId-{self.index:012d}"

    @property
    def is_open(self) -> bool:
        return self.closed_ms is None

    def put(self, key: str, data: bytes, now_ms: int) -> Record:
        """Append a record; its arrival is never before its predecessor's."""
        arrival_ms = max(now_ms, self.records[-1].arrival_ms) if self.records else now_ms
        number = sequence.make(self.opened_ms, self.next_count, arrival_ms, self.index)
        record = Record(number, arrival_ms, key, data)
        self.records.append(record)
        self.next_count += 1
        return record

    def trim(self, before_ms: int) -> None:
        """Forget the records that arrived before ``before_ms``."""
        if self.records and self.records[0].arrival_ms < before_ms:
            gone = self.count_at(before_ms) - self.first_count
            del self.records[:gone]
            self.first_count += gone

    def count_at(self, time_ms: float) -> int:
        """The count of the first record that arrived at this time or later."""
        return self.first_count + bisect_left(self.records, time_ms, key=lambda record: record.arrival_ms)

    def read(self, count: int, limit: int) -> list[Record]:
        """Up to ``limit`` records from ``count`` on, up to 10 MiB, and at least one where there is one."""
        at = max(count - self.first_count, 0)
        found: list[Record] = []
        size = 0
        for record in itertools.islice(self.records, at, at + limit):
            size += len(record.data) + len(record.partition_key)
            if found and size > READ_MAX_BYTES:
                break
            found.append(record)
        return found

    def millis_behind(self, count: int, now_ms: int) -> int:
        """How long ago the record at ``count`` arrived; 0 where there is none yet."""
        at = max(count - self.first_count, 0)
        return max(now_ms - self.records[at].arrival_ms, 0) if at < len(self.records) else 0

    def close(self, now_ms: int, children: tuple[str, ...]) -> None:
        self.closed_ms = max(now_ms, self.opened_ms)
        self.children = children

    def open_at(self, time_ms: float) -> bool:
        return self.opened_ms <= time_ms and (self.closed_ms is None or self.closed_ms > time_ms)

    def hash_range(self) -> dict[str, str]:
        return {"StartingHashKey": str(self.start), "EndingHashKey": str(self.end)}

    def starting_number(self) -> str:
        return sequence.make(self.opened_ms, 0, self.opened_ms, self.index)

    def ending_number(self) -> str | None:
        """Above every record of a closed shard, and below its children's."""
        if self.closed_ms is None:
            return None
        return sequence.make(self.opened_ms, self.next_count, self.closed_ms, self.index)

    def describe(self) -> dict[str, Any]:
        numbers = {"StartingSequenceNumber": self.starting_number()}
        if ending := self.ending_number():
            numbers["EndingSequenceNumber"] = ending
        described: dict[str, Any] = {
            "ShardId": self.shard_id,
            "HashKeyRange": self.hash_range(),
            "SequenceNumberRange": numbers,
        }
        return described | dict(zip(("ParentShardId", "AdjacentParentShardId"), self.parents, strict=False))

    def describe_child(self) -> dict[str, Any]:
        return {"ShardId": self.shard_id, "ParentShards": list(self.parents), "HashKeyRange": self.hash_range()}
