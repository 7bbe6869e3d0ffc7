"""The position of a time in a shard, on a stream with a clock that a test moves."""

from __future__ import annotations

import pytest

from consumer.admin.replay.arrivals import facts_of
from consumer.admin.replay.rewind import ShardFacts
from pipeline.record import Position
from tests.support.clocked_kinesis import HOUR_MS, ClockedKinesis

STREAM, SHARD = "events", "shardId-000000000000"


@pytest.fixture
def kinesis() -> ClockedKinesis:
    clocked = ClockedKinesis()
    clocked.client.create_stream(StreamName=STREAM, ShardCount=1)
    clocked.now_ms += 1_000
    return clocked


def put(kinesis: ClockedKinesis, after_ms: int) -> tuple[Position, int]:
    kinesis.now_ms += after_ms
    sequence = kinesis.client.put_record(StreamName=STREAM, PartitionKey="k", Data=b"x")["SequenceNumber"]
    return Position(int(sequence), 0), kinesis.now_ms


def facts(kinesis: ClockedKinesis, moment_ms: int) -> ShardFacts:
    return facts_of(kinesis.client, STREAM, [SHARD], moment_ms, sleep=lambda seconds: None)[SHARD]


@pytest.mark.parametrize("gap_ms", [10, 5_000, 7 * HOUR_MS])
def test_the_records_around_a_moment(kinesis: ClockedKinesis, gap_ms: int) -> None:
    placed = [put(kinesis, gap_ms) for _ in range(3)]
    (first, first_ms), (second, second_ms), (third, third_ms) = placed
    kinesis.now_ms += 1
    assert facts(kinesis, first_ms) == ShardFacts(None, first, None, first_ms)
    assert facts(kinesis, second_ms) == ShardFacts(first, second, first_ms, second_ms)
    assert facts(kinesis, second_ms + 1) == ShardFacts(second, third, second_ms, third_ms)
    assert facts(kinesis, third_ms + 1) == ShardFacts(third, None, third_ms, None)


def test_an_empty_shard_has_no_record_on_either_side(kinesis: ClockedKinesis) -> None:
    assert facts(kinesis, kinesis.now_ms) == ShardFacts(None, None)


def test_a_long_shard_is_not_read_from_its_beginning(kinesis: ClockedKinesis) -> None:
    for _ in range(300):
        put(kinesis, 60_000)
    last, last_ms = put(kinesis, 60_000)
    read: list[int] = []
    kinesis.before = lambda operation, request: read.append(request.get("Limit", 0))
    assert facts(kinesis, last_ms + 1).last_before == last
    assert sum(1 for limit in read if limit) <= 8
