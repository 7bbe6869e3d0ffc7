"""A session that reads a slice stops at the end, makes its records durable, and only then counts as passed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from consumer.kcl.bounded import MARGIN_MS, RateLimit, ShardSlice, Slice, share_read
from consumer.kcl.bridge_server import Decoder
from consumer.kcl.session import AT_ONCE, ShardSession
from consumer.kcl.stuck import StuckWatch, at_work
from consumer.testing import FakeKcl, row
from pipeline.batching.batcher import Batcher
from pipeline.flow.bounds import Bounds
from pipeline.metrics import Metrics
from pipeline.record import Position, Shard
from pipeline.stage import Stage
from pipeline.testing import FakeJudge, FakeSink, SimulatedLoop

SHARD_ID = "shardId-000000000000"
SLICE = Slice(1_000, 2_000)
BEYOND_MS = SLICE.to_ms + MARGIN_MS


class Rig:
    def __init__(self, rate: float) -> None:
        self.kcl, self.sink, self.leaving = FakeKcl(), FakeSink(), asyncio.Event()
        batcher = Batcher(max_records=8, max_cost=0, linger_s=0.001)
        metrics, clock = Metrics(), asyncio.get_running_loop().time
        self.stage = Stage(FakeJudge(), batcher, [self.sink], Bounds(100, 10**9), metrics)
        self.session = ShardSession(
            self.kcl,
            self.stage,
            lambda shard_id: Shard("events", 1, shard_id),
            self.leaving,
            metrics.records,
            Decoder(),
            bounds=lambda shard_id: ShardSlice(SLICE, shard_id),
            rate=RateLimit(rate),
            clock=clock,
            now=lambda: BEYOND_MS / 1000,
        )

    async def begin(self) -> None:
        await self.kcl.initialize(SHARD_ID)
        for _ in range(AT_ONCE):
            await self.kcl.process([], behind_ms=5)

    def hand_over(self, *arrived_ms: int) -> None:
        rows = [row(number, arrived_ms=at) for number, at in enumerate(arrived_ms, 1)]
        self.kcl.begin("processRecords", records=rows, millisBehindLatest=5)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110  # in simulated time
            await asyncio.sleep(0.01)


def rigged(body: Callable[[Rig], Awaitable[None]], rate: float = 0.0) -> None:
    async def main() -> None:
        rig = Rig(rate)
        tasks = [asyncio.create_task(rig.stage.run()), asyncio.create_task(rig.session.run())]
        try:
            async with asyncio.timeout(100):
                await body(rig)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(main())


async def withheld(rig: Rig) -> bool:
    try:
        async with asyncio.timeout(20):
            await rig.kcl.answer()
    except TimeoutError:
        return True
    return False


def test_records_outside_are_not_taken_and_the_status_is_withheld_until_leaving() -> None:
    async def body(rig: Rig) -> None:
        await rig.begin()
        rig.hand_over(999, 1_000, 1_999, 2_000, BEYOND_MS, 1_500)
        await rig.until(lambda: rig.session.passed)
        assert rig.kcl.checkpoints == [Position(6, 0)]
        assert await withheld(rig)
        rig.leaving.set()
        await rig.kcl.answer()
        await rig.kcl.say("shutdownRequested")
        assert rig.session.over

    rigged(body)


def test_a_shard_that_has_passed_is_never_stuck_though_its_lag_grows() -> None:
    """Its status is withheld, so KCL reads no further and says nothing: that alone would be a stuck shard."""

    async def body(rig: Rig) -> None:
        await rig.begin()
        assert at_work([rig.session]) == [rig.session]
        rig.hand_over(1_000, BEYOND_MS)
        await rig.until(lambda: rig.session.passed)
        stuck, exempt = StuckWatch(100), StuckWatch(100)
        for now in (0.0, 200.0):
            found = stuck.look([rig.session.look()], now)
            assert not exempt.look([session.look() for session in at_work([rig.session])], now)
        assert found.keys() == {SHARD_ID}

    rigged(body)


def test_how_far_a_shard_is_read_is_known_by_the_arrival_of_its_records() -> None:
    async def body(rig: Rig) -> None:
        assert rig.session.reached_ms is None
        await rig.begin()
        rig.hand_over(1_000, 1_250)
        await rig.until(lambda: rig.session.reached_ms == 1_250)
        assert share_read(SLICE, 0, [rig.session.reached_ms]) == 0.25
        assert share_read(SLICE, 1, [rig.session.reached_ms, None]) == (1 + 0.25 + 0) / 3

    rigged(body)


def test_a_shard_is_not_passed_before_all_of_it_is_durable() -> None:
    async def body(rig: Rig) -> None:
        rig.sink.stall()
        await rig.begin()
        rig.hand_over(1_000, BEYOND_MS)
        assert await withheld(rig)
        assert not rig.session.passed
        rig.sink.recover()
        await rig.until(lambda: rig.session.passed)

    rigged(body)


def test_an_idle_shard_is_passed_without_a_checkpoint() -> None:
    async def body(rig: Rig) -> None:
        await rig.begin()
        while not rig.session.passed:
            rig.kcl.begin("processRecords", records=[], millisBehindLatest=0)
            await withheld(rig)
        assert rig.kcl.checkpoints == []

    rigged(body)


def test_a_rate_withholds_the_status_for_as_long_as_it_takes() -> None:
    async def body(rig: Rig) -> None:
        clock = asyncio.get_running_loop().time
        await rig.begin()
        began_s = clock()
        for begin in (1, 11, 21):
            await rig.kcl.process([row(begin + number, arrived_ms=1_500) for number in range(10)], behind_ms=5)
        assert clock() - began_s == pytest.approx(3.0, abs=0.1)

    rigged(body, rate=10.0)
