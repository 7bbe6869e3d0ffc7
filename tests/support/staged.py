"""A running stage on fakes, for tests."""

import asyncio
from collections.abc import Awaitable, Callable

from pipeline.batching.batch_size import BatchSizeController
from pipeline.batching.batcher import Batcher
from pipeline.dead_letters.limit import Limits
from pipeline.dead_letters.log import DeadLetterLog
from pipeline.flow.bounds import Bounds
from pipeline.flow.lane import Lane
from pipeline.flow.misplaced import HashRangeOf, Misplaced, unknown
from pipeline.metrics import Metrics
from pipeline.record import Record, Shard
from pipeline.stage import Stage
from pipeline.testing import FakeJudge, FakeSink

DEADLINE_S = 5
BOUNDS = Bounds(records_per_shard=100, total_bytes=1_000_000)
Body = Callable[[Stage, FakeJudge, list[FakeSink]], Awaitable[None]]


def shard(number: int = 0) -> Shard:
    return Shard("events", 1, f"shardId-{number:012}")


def records(count: int, first: int = 100, number: int = 0) -> list[Record]:
    return [Record(shard(number).shard_id, b"data", "key", str(first + i), 0, 1) for i in range(count)]


def staged(
    body: Body,
    *,
    judge: Callable[[], FakeJudge] = FakeJudge,
    sinks: tuple[str, ...] = ("a",),
    bounds: Bounds = BOUNDS,
    bytes_per_record: int = 0,
    batch_sizes: BatchSizeController | None = None,
    limits: Limits | None = None,
    letters: DeadLetterLog | None = None,
    within: HashRangeOf = unknown,
) -> None:
    """Run ``body`` with a running stage, within a deadline."""

    async def main() -> None:
        made = judge()
        fakes = [FakeSink(name, bytes_per_record=bytes_per_record) for name in sinks]
        batcher = Batcher(max_records=8, max_cost=0, linger_s=0.001)
        metrics = Metrics()
        misplaced = Misplaced(metrics.records, within)
        stage = Stage(
            made,
            batcher,
            fakes,
            bounds,
            metrics,
            batch_sizes=batch_sizes,
            limits=limits,
            letters=letters,
            misplaced=misplaced,
        )
        running = asyncio.create_task(stage.run())
        try:
            async with asyncio.timeout(DEADLINE_S):
                await body(stage, made, fakes)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())


async def until(lane: Lane, condition: Callable[[], bool]) -> None:
    while not condition():
        lane.changed.clear()
        await lane.changed.wait()
