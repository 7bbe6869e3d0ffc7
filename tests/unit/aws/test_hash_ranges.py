"""The hash keys of shards when a session begins: known soon, or not at all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from consumer.aws.hash_ranges import AGAIN_S, HashRanges
from consumer.local.kinesis.errors import throttled
from pipeline.hash_keys import HASH_KEYS, HashRange
from tests.support.clocked_kinesis import ClockedKinesis

STREAM = "events"
LOWER, UPPER = "shardId-000000000000", "shardId-000000000001"
HALVES = {LOWER: HashRange(0, HASH_KEYS // 2 - 1), UPPER: HashRange(HASH_KEYS // 2, HASH_KEYS - 1)}


@pytest.fixture
def kinesis() -> Iterator[ClockedKinesis]:
    clocked = ClockedKinesis()
    clocked.client.create_stream(StreamName=STREAM, ShardCount=2)
    clocked.now_ms += 1000
    yield clocked
    clocked.client.close()


def ranges(kinesis: ClockedKinesis, now: list[float] | None = None, wait_s: float = 5) -> HashRanges:
    clock = now or [0.0]
    return HashRanges(lambda: kinesis.client, STREAM, wait_s=wait_s, clock=lambda: clock[0])


async def all_of(known: HashRanges, *shard_ids: str) -> list[HashRange | None]:
    return list(await asyncio.gather(*(known.of(shard_id) for shard_id in shard_ids)))


def test_sessions_that_begin_together_ask_once(kinesis: ClockedKinesis) -> None:
    async def main() -> None:
        known = ranges(kinesis)
        assert await all_of(known, LOWER, UPPER, LOWER) == [HALVES[LOWER], HALVES[UPPER], HALVES[LOWER]]
        assert await all_of(known, UPPER) == [HALVES[UPPER]]

    asyncio.run(main())
    assert kinesis.calls["ListShards"] == 1


def test_a_shard_that_is_new_is_asked_for(kinesis: ClockedKinesis) -> None:
    async def main() -> None:
        known = ranges(kinesis)
        await known.of(LOWER)
        middle = str(HASH_KEYS // 4)
        kinesis.client.split_shard(StreamName=STREAM, ShardToSplit=LOWER, NewStartingHashKey=middle)
        kinesis.now_ms += 1000
        assert await known.of("shardId-000000000002") == HashRange(0, HASH_KEYS // 4 - 1)

    asyncio.run(main())


def test_in_auto_hash_keys_mean_nothing(kinesis: ClockedKinesis) -> None:
    """A stream may change its distribution at any time; sessions that begin a minute later know."""

    async def main() -> None:
        now = [0.0]
        known = ranges(kinesis, now)
        assert await known.of(LOWER) == HALVES[LOWER]
        arn = kinesis.client.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]["StreamARN"]
        kinesis.client.update_stream_mode(StreamARN=arn, StreamModeDetails={"StreamMode": "ON_DEMAND"})
        kinesis.now_ms += 1000
        kinesis.client.update_stream_record_distribution_strategy(StreamARN=arn, RecordDistributionStrategy="AUTO")
        now[0] += AGAIN_S
        assert await known.of(LOWER) is None

    asyncio.run(main())


def test_where_kinesis_does_not_answer_nothing_is_known_and_nothing_fails(kinesis: ClockedKinesis) -> None:
    def refuse(operation: str, request: dict[str, Any]) -> None:
        raise throttled("too fast")

    async def main() -> None:
        known = ranges(kinesis)
        kinesis.before = refuse
        assert await known.of(LOWER) is None
        kinesis.before = lambda operation, request: None
        assert await known.of(LOWER) == HALVES[LOWER]

    asyncio.run(main())


def test_neither_a_session_nor_the_end_of_the_task_waits_for_a_slow_answer(kinesis: ClockedKinesis) -> None:
    let_go, gone = threading.Event(), threading.Event()

    def wait(operation: str, request: dict[str, Any]) -> None:
        let_go.wait(10)
        gone.set()

    kinesis.before = wait

    async def main() -> None:
        known = ranges(kinesis, wait_s=0.05)
        async with asyncio.timeout(5):
            assert await known.of(LOWER) is None

    asyncio.run(main())
    assert not gone.is_set()
    let_go.set()
    assert gone.wait(10)
