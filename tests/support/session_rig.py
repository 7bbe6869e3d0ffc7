"""A session between a fake KCL and a stage on fakes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from consumer.kcl.bridge_server import Decoder
from consumer.kcl.session import ShardSession
from consumer.testing import FakeKcl, row
from pipeline.batching.batcher import Batcher
from pipeline.flow.bounds import Bounds
from pipeline.metrics import Metrics
from pipeline.record import Record, Shard
from pipeline.stage import Stage
from pipeline.testing import FakeJudge, FakeSink

DEADLINE_S = 5
BEAT_LATE_S = 0.25
BEATS_MEANWHILE = 5
SHARD_ID = "shardId-000000000000"


@dataclass
class Rig:
    kcl: FakeKcl
    judge: FakeJudge
    sink: FakeSink
    session: ShardSession
    leaving: asyncio.Event
    running: asyncio.Task[None]
    start: Callable[[FakeKcl], ShardSession]

    def beside(self, kcl: FakeKcl) -> asyncio.Task[None]:
        """Another shard's session on the same stage, until its KCL closes it."""
        return asyncio.create_task(self.start(kcl).run())

    async def beat_until(self, condition: Callable[[], bool]) -> None:
        """Send empty processRecords, as KCL does, until ``condition``."""
        while not condition():
            await self.kcl.process([])
            await asyncio.sleep(0)


def shard(shard_id: str) -> Shard:
    return Shard("events", 1, shard_id)


def rigged(
    body: Callable[[Rig], Awaitable[None]],
    window: int = 100,
    *,
    judge: FakeJudge | None = None,
    sink: FakeSink | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    async def main(judge: FakeJudge, sink: FakeSink) -> None:
        metrics, leaving, clock = Metrics(), asyncio.Event(), asyncio.get_running_loop().time
        batcher = Batcher(max_records=8, max_cost=0, linger_s=0.001)
        stage = Stage(judge, batcher, [sink], Bounds(window, 10**9), metrics)
        kcl, decoder = FakeKcl(), Decoder()

        def start(kcl: FakeKcl) -> ShardSession:
            return ShardSession(kcl, stage, shard, leaving, metrics.records, decoder, clock=clock)

        session = start(kcl)
        staging, running = asyncio.create_task(stage.run()), asyncio.create_task(session.run())
        try:
            async with asyncio.timeout(DEADLINE_S):
                await body(Rig(kcl, judge, sink, session, leaving, running, start))
        finally:
            for task in (staging, running):
                task.cancel()
            await asyncio.gather(staging, running, return_exceptions=True)
            decoder.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main(judge or FakeJudge(), sink or FakeSink()))


class SlowJudge(FakeJudge):
    """Takes a tenth of a second for a batch."""

    async def settle(self, records: Sequence[Record]) -> None:
        await asyncio.sleep(0.1)
        await super().settle(records)


async def filling(kcl: FakeKcl) -> None:
    """More records than any limit allows."""
    for number in range(1, 100):
        await kcl.process([row(number)])
        await asyncio.sleep(0.1)
