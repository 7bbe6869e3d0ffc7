"""The stage on fakes: too many dead letters, and records that are held back until the limits allow them."""

import asyncio
from collections.abc import Callable

import pytest

from pipeline.batching.batcher import Batcher
from pipeline.dead_letters.limit import Limits
from pipeline.dead_letters.log import DeadLetterLog
from pipeline.errors import Fatal
from pipeline.flow.bounds import Bounds
from pipeline.flow.lane import BEHIND_MS
from pipeline.metrics import Metrics
from pipeline.record import Position
from pipeline.stage import Stage
from pipeline.testing import FakeJudge, FakeSink, dead
from pipeline.testing.fake_ports import enriched
from tests.support.staged import BOUNDS, DEADLINE_S, records, shard, staged, until

LIMITS = Limits(40, 0.5, 40, "failures")


def dead_from(sequence: int) -> Callable[[], FakeJudge]:
    return lambda: FakeJudge(lambda record: dead(record) if int(record.sequence) >= sequence else enriched(record))


def test_too_many_dead_letters_end_the_task_and_none_of_them_is_durable() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        lane, other = stage.open(shard(), None), stage.open(shard(1), None)
        stage.admit(lane, records(100))
        await until(lane, lambda: stage.stopped is not None)
        assert lane.durable == Position(119, 0)
        assert not stage.has_room(other), "nothing more is admitted"
        with pytest.raises(Fatal, match=r"40 records in a row \(dead_letter.max_consecutive\)"):
            await stage.end(lane)
        assert lane.durable == Position(119, 0)
        raise Fatal("seen")

    with pytest.raises(Fatal, match="seen"):
        staged(body, judge=dead_from(120), limits=Limits(40, 1.0, 1_000, "failures"))


def test_the_stage_ends_with_the_reason_of_a_limit() -> None:
    async def main() -> None:
        metrics = Metrics()
        batcher = Batcher(max_records=8, max_cost=0, linger_s=0.001)
        stage = Stage(FakeJudge(dead), batcher, [FakeSink("a")], BOUNDS, metrics, limits=LIMITS)
        stage.admit(stage.open(shard(), None), records(100))
        with pytest.raises(Fatal, match="Fix the release"):
            await asyncio.wait_for(stage.run(), DEADLINE_S)
        assert metrics.dead_letters.stop_reason is not None
        assert b"penstock_dead_letter_limit_reached 1.0" in metrics.exposition()

    asyncio.run(main())


def test_held_records_are_reported_and_released_when_nothing_more_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.flow.outlet.HOLD_S", 0.2)

    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        lane = stage.open(shard(), None)
        stage.admit(lane, records(8))
        await until(lane, lambda: not lane.unsettled)
        assert lane.durable == Position(103, 0) and lane.bytes > 0
        assert "held back: 4 records" in str(stage.metrics.outages.current())
        began = asyncio.get_running_loop().time()
        await until(lane, lambda: lane.durable == Position(107, 0))
        assert asyncio.get_running_loop().time() - began >= 0.15
        assert lane.bytes == 0

    staged(body, judge=dead_from(104), limits=LIMITS)


def test_a_shard_that_is_behind_lets_nothing_go_and_one_at_its_end_everything() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        lane = stage.open(shard(), None)
        lane.lag_ms = BEHIND_MS + 1
        stage.admit(lane, records(8))
        await until(lane, lambda: not lane.unsettled)
        await stage.drain(lane)
        assert lane.durable is None
        lane = stage.open(shard(1), None)
        stage.admit(lane, records(30, number=1))
        await stage.end(lane)
        assert lane.durable == Position(129, 0)

    staged(body, judge=lambda: FakeJudge(dead), limits=LIMITS)


def test_held_records_do_not_fill_the_memory_for_ever() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        lane = stage.open(shard(), None)
        stage.admit(lane, records(10))
        await until(lane, lambda: not lane.unsettled)
        assert stage.has_room(lane)
        assert lane.durable is not None and stage.stopped is None

    staged(
        body,
        judge=lambda: FakeJudge(dead),
        limits=Limits(1_000, 0.5, 1_000, "failures"),
        bounds=Bounds(records_per_shard=100, total_bytes=5_000),
    )


def test_a_lost_lease_drops_what_is_held_back() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        lane = stage.open(shard(), None)
        stage.admit(lane, records(8))
        await until(lane, lambda: not lane.unsettled)
        assert stage.bytes > 0
        stage.abandon(lane)
        assert stage.bytes == 0 and not stage.metrics.outages.current()

    staged(body, judge=lambda: FakeJudge(dead), limits=LIMITS)


def test_dead_letters_are_logged_once_each_sort_and_then_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        lane = stage.open(shard(), None)
        stage.admit(lane, records(100))
        await stage.end(lane)

    staged(body, judge=lambda: FakeJudge(dead), letters=DeadLetterLog("s3://bucket/dead"))
    lines = [entry.message for entry in caplog.records if "dead letter" in entry.message]
    assert len(lines) == 2
    assert "events/shardId-000000000000/100/0" in lines[0]
    assert lines[1] == "further dead letters: 99 exception"
