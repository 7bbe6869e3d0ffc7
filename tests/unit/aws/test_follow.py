"""Following a stream: each record once and in order, through splits and merges, between two times, when throttled."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest

from consumer.aws.follow import Follower
from consumer.aws.record_lines import StreamRecord
from consumer.local.kinesis.errors import KinesisError
from consumer.testing.aggregates import aggregate
from tests.support.clocked_kinesis import ClockedKinesis

STREAM = "events"
HALF = str(1 << 126)


class Stream(ClockedKinesis):
    """One stream with a clock that sleeping moves. ``at``: actions at a time, in seconds from the start."""

    def __init__(self, shards: int) -> None:
        super().__init__()
        self.client.create_stream(StreamName=STREAM, ShardCount=shards)
        self.now_ms += 1000
        self.begin_ms = self.now_ms
        self.at: list[tuple[float, Any]] = []
        self.numbers = itertools.count()

    def now(self) -> float:
        return self.now_ms / 1000

    def sleep(self, seconds: float) -> None:
        until_ms = self.now_ms + max(1, round(seconds * 1000))
        while self.at and self.begin_ms + self.at[0][0] * 1000 <= until_ms:
            at_s, act = self.at.pop(0)
            self.now_ms = max(self.now_ms, round(self.begin_ms + at_s * 1000))
            act()
        self.now_ms = max(self.now_ms, until_ms)

    def put(self, count: int = 20) -> None:
        for _ in range(count):
            number = next(self.numbers)
            self.client.put_record(StreamName=STREAM, PartitionKey=f"k{number % 7}", Data=b"%d" % number)

    def split(self, shard_id: str, at: str = HALF) -> None:
        self.client.split_shard(StreamName=STREAM, ShardToSplit=shard_id, NewStartingHashKey=at)

    def time(self, seconds: float) -> datetime:
        return datetime.fromtimestamp(self.begin_ms / 1000 + seconds, UTC)

    def follow(self, **options: Any) -> list[StreamRecord]:
        follower = Follower(self.client, STREAM, now=self.now, sleep=self.sleep, **options)
        return list(follower.records())


def numbers(records: list[StreamRecord]) -> list[int]:
    return [int(record.data) for record in records]


def in_order(records: list[StreamRecord]) -> bool:
    keys = {record.partition_key for record in records}
    return all(
        (found := numbers([record for record in records if record.partition_key == key])) == sorted(found)
        for key in keys
    )


def test_every_record_once_and_each_key_in_order_through_a_split_and_a_merge() -> None:
    stream = Stream(shards=1)
    stream.put()
    stream.at = [
        (3, lambda: stream.split("shardId-000000000000")),
        (4, stream.put),
        (
            6,
            lambda: stream.client.merge_shards(
                StreamName=STREAM, ShardToMerge="shardId-000000000001", AdjacentShardToMerge="shardId-000000000002"
            ),
        ),
        (8, stream.put),
    ]

    records = stream.follow(start=stream.time(-1), until=stream.time(20))

    assert sorted(numbers(records)) == list(range(60))
    assert in_order(records)
    assert {record.shard_id[-1] for record in records} == {"0", "1", "2", "3"}


def test_only_records_between_two_times_are_read() -> None:
    stream = Stream(shards=2)
    stream.put()
    stream.at = [(10, stream.put), (20, stream.put)]

    assert sorted(numbers(stream.follow(start=stream.time(5), until=stream.time(20)))) == list(range(20, 40))
    assert stream.now() < stream.time(25).timestamp()


def test_without_a_start_only_new_records_are_read() -> None:
    stream = Stream(shards=1)
    stream.put()
    stream.now_ms += 5
    stream.at = [(5, stream.put)]

    assert numbers(stream.follow(until=stream.time(15))) == list(range(20, 40))


def test_one_shard_and_its_descendants_are_read() -> None:
    stream = Stream(shards=2)
    stream.at = [(1, stream.put), (2, lambda: stream.split("shardId-000000000000")), (4, stream.put)]

    records = stream.follow(start=stream.time(0), until=stream.time(12), shard_id="shardId-000000000000")

    assert {record.shard_id[-1] for record in records} <= {"0", "2", "3"}
    assert len({record.shard_id for record in records}) > 1


def test_a_shard_is_read_once_a_second() -> None:
    stream = Stream(shards=3)
    stream.follow(start=stream.time(0), until=stream.time(30))
    assert stream.calls["GetRecords"] <= 3 * 34


def test_throttled_reads_come_again_less_often_and_lose_nothing() -> None:
    stream = Stream(shards=1)
    stream.at = [(number, stream.put) for number in range(1, 10)]

    def throttle(operation: str, request: dict[str, Any]) -> None:
        if operation == "GetRecords" and stream.now() < stream.time(40).timestamp():
            raise KinesisError("ProvisionedThroughputExceededException", "full")

    stream.before = throttle
    records = stream.follow(start=stream.time(0), until=stream.time(60))

    assert numbers(records) == list(range(180))
    assert stream.calls["GetRecords"] < 40


def test_an_expired_iterator_is_made_again_behind_the_last_record() -> None:
    stream = Stream(shards=1)
    stream.put()
    stream.at = [(20, stream.put)]
    expired = iter([False, True, True, False, True])

    def expire(operation: str, request: dict[str, Any]) -> None:
        if operation == "GetRecords" and next(expired, False):
            raise KinesisError("ExpiredIteratorException", "too old")

    stream.before = expire
    assert numbers(stream.follow(start=stream.time(-1), until=stream.time(30))) == list(range(40))


def test_another_refusal_ends_it() -> None:
    stream = Stream(shards=1)
    stream.put()

    def refuse(operation: str, request: dict[str, Any]) -> None:
        if operation == "GetRecords":
            raise KinesisError("AccessDeniedException", "no")

    stream.before = refuse
    with pytest.raises(stream.client.exceptions.ClientError, match="AccessDenied"):
        stream.follow(start=stream.time(-1), until=stream.time(5))


def test_aggregates_are_taken_apart() -> None:
    stream = Stream(shards=1)
    data = aggregate([b"1", b"2", b"3"])
    stream.client.put_record(StreamName=STREAM, PartitionKey="a", Data=data)

    records = stream.follow(start=stream.time(-1), until=stream.time(1))

    assert [(record.data, record.position.sub, record.partition_key) for record in records] == [
        (b"1", 0, "key"),
        (b"2", 1, "key"),
        (b"3", 2, "key"),
    ]


def test_a_start_in_the_future_is_waited_for() -> None:
    stream = Stream(shards=1)
    stream.at = [(2, stream.put), (8, stream.put)]
    assert numbers(stream.follow(start=stream.time(5), until=stream.time(12))) == list(range(20, 40))
