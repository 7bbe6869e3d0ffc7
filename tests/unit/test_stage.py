"""The stage on fakes: order, back-pressure, drains, lost leases."""

import asyncio

import pytest

from pipeline.batching.batch_size import BatchSizeController
from pipeline.batching.batcher import Batcher, BatchPlan
from pipeline.errors import Fatal
from pipeline.flow.bounds import Bounds
from pipeline.flow.lane import BEHIND_MS
from pipeline.metrics import Metrics
from pipeline.record import Position, Record
from pipeline.stage import Stage
from pipeline.testing import FakeJudge, FakeSink, dead
from tests.support.staged import BOUNDS, records, shard, staged, until


def test_batches_are_no_larger_than_what_fits_into_memory() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        lane = stage.open(shard(), None)
        stage.admit(lane, records(16))
        await stage.end(lane)
        judge.safe_cost = 3
        stage.admit(lane, records(6, first=200))
        await stage.end(lane)
        assert judge.batches == [8, 8, 3, 3]

    staged(body)


def test_every_record_reaches_every_sink_once_and_in_order() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        lanes = [stage.open(shard(number), None) for number in range(3)]
        for number, lane in enumerate(lanes):
            stage.admit(lane, records(50, number=number))
        for number, lane in enumerate(lanes):
            await stage.end(lane)
            assert lane.durable == Position(149, 0)
            for sink in sinks:
                sequences = [record.sequence for record in sink.rows[shard(number).shard_id]]
                assert sequences == [str(100 + i) for i in range(50)]

    staged(body, judge=lambda: FakeJudge(slots=3), sinks=("a", "b"))


def test_dead_records_advance_what_is_durable() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        lane = stage.open(shard(), None)
        stage.admit(lane, records(10))
        await stage.end(lane)
        assert lane.durable == Position(109, 0)

    staged(body, judge=lambda: FakeJudge(dead))


def test_batches_span_shards() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        lanes = [stage.open(shard(number), None) for number in range(8)]
        for number, lane in enumerate(lanes):
            stage.admit(lane, records(1, number=number))
        for lane in lanes:
            await stage.end(lane)
        assert judge.batches[0] > 1

    staged(body)


def test_a_full_window_has_no_room_until_its_records_settle() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        judge.pause()
        lane = stage.open(shard(), None)
        stage.admit(lane, records(100))
        assert not stage.has_room(lane)
        judge.resume()
        await until(lane, lambda: stage.has_room(lane))

    staged(body)


def test_a_stalled_sink_takes_the_room_of_the_whole_task_and_gives_it_back() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        sinks[0].stall()
        lane, other = stage.open(shard(0), None), stage.open(shard(1), None)
        stage.admit(lane, records(50))
        await until(lane, lambda: not lane.unsettled)
        assert not stage.has_room(other)
        assert lane.durable is None
        sinks[0].recover()
        assert stage.has_room(other)
        assert lane.durable == Position(149, 0)

    staged(body, bounds=Bounds(records_per_shard=1000, total_bytes=50 * 1000), bytes_per_record=1000)


def test_a_lost_lease_gives_its_room_to_the_others_at_once() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        sinks[0].stall()
        lost, kept = stage.open(shard(0), None), stage.open(shard(1), None)
        stage.admit(lost, records(50))
        await until(lost, lambda: not lost.unsettled)
        assert not stage.has_room(kept)
        kept.changed.clear()
        stage.abandon(lost)
        assert stage.has_room(kept)
        assert kept.changed.is_set()

    staged(body, bounds=Bounds(records_per_shard=1000, total_bytes=50 * 1000), bytes_per_record=1000)


def test_room_that_one_of_two_sinks_makes_is_announced() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        for sink in sinks:
            sink.stall()
        lane, other = stage.open(shard(0), None), stage.open(shard(1), None)
        stage.admit(lane, records(50))
        await until(lane, lambda: not lane.unsettled)
        assert not stage.has_room(other)
        other.changed.clear()
        sinks[0].recover()
        assert stage.has_room(other)
        assert other.changed.is_set()
        assert lane.durable is None

    staged(body, sinks=("a", "b"), bounds=Bounds(records_per_shard=1000, total_bytes=75 * 1000), bytes_per_record=1000)


def test_room_that_skipped_records_make_is_announced() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        sinks[0].held[shard(0).shard_id] = Position(10_000, 0)
        lane, other = stage.open(shard(0), None), stage.open(shard(1), None)
        stage.admit(lane, records(50))
        await until(lane, lambda: not lane.unsettled)
        other.changed.clear()
        stage.admit(lane, records(50, first=200))
        assert not stage.has_room(other)
        await until(other, lambda: stage.has_room(other))

    staged(body, bounds=Bounds(records_per_shard=1000, total_bytes=100))


def test_records_that_every_sink_holds_are_never_predicted_again() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        for sink, held in zip(sinks, (105, 103), strict=True):
            sink.held[shard().shard_id] = Position(held, 0)
        lane = stage.open(shard(), None)
        stage.admit(lane, records(10))
        await stage.end(lane)
        assert sum(judge.batches) == 6
        assert lane.durable == Position(109, 0)

    staged(body, sinks=("a", "b"))


def test_records_that_sinks_have_count_as_durable_before_new_ones_settle() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        sinks[0].held[shard().shard_id] = Position(500, 0)
        lane = stage.open(shard(), None)
        stage.admit(lane, records(10))
        await stage.end(lane)
        assert lane.durable == Position(500, 0)
        assert judge.batches == []

    staged(body)


def test_a_lost_lease_writes_nothing_more() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        judge.pause()
        lost, kept = stage.open(shard(0), None), stage.open(shard(1), None)
        stage.admit(lost, records(20, number=0))
        stage.admit(kept, records(20, number=1))
        stage.abandon(lost)
        judge.resume()
        await stage.end(kept)
        assert shard(0).shard_id not in sinks[0].rows
        assert len(sinks[0].rows[shard(1).shard_id]) == 20

    staged(body)


def test_a_shard_that_comes_back_leaves_its_old_session_behind() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        judge.pause()
        old = stage.open(shard(), None)
        stage.admit(old, records(20))
        new = stage.open(shard(), None)
        stage.admit(new, records(20))
        judge.resume()
        await stage.end(new)
        assert [record.sequence for record in sinks[0].rows[shard().shard_id]] == [str(100 + i) for i in range(20)]

    staged(body)


def test_measured_costs_reach_the_batcher() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        lane = stage.open(shard(), None)
        admitted = records(5)
        stage.admit(lane, admitted)
        await stage.end(lane)
        assert [record.cost for record in admitted] == [7] * 5

    staged(body, judge=lambda: FakeJudge(cost=7))


def test_a_failure_ends_the_run_with_its_reason() -> None:
    async def main() -> None:
        stage = Stage(FakeJudge(), Batcher(max_records=8, max_cost=0, linger_s=0), [], BOUNDS, Metrics())
        running = asyncio.create_task(stage.run())
        stage.fail(Fatal("the weights are gone"))
        await running

    with pytest.raises(Fatal, match="the weights are gone"):
        asyncio.run(main())


def test_a_batch_that_is_not_full_waits_for_more_while_the_model_is_busy_and_shards_are_behind() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        lane = stage.open(shard(), None)
        lane.lag_ms = BEHIND_MS + 1
        judge.pause()
        stage.admit(lane, records(8))
        await judge.begun()
        stage.admit(lane, records(4, first=200))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):  # many times the linger
                await judge.begun(2)
        stage.admit(lane, records(4, first=300))
        judge.resume()
        await stage.end(lane)
        assert judge.batches == [8, 8]

    staged(body, judge=lambda: FakeJudge(slots=2))


def test_a_shard_that_has_caught_up_does_not_wait() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        lane = stage.open(shard(), None)
        judge.pause()
        stage.admit(lane, records(8))
        await judge.begun()
        stage.admit(lane, records(4, first=200))
        await judge.begun(2)
        judge.resume()
        await stage.end(lane)
        assert judge.batches == [8, 4]

    staged(body, judge=lambda: FakeJudge(slots=2))


def test_batches_are_as_the_learner_plans_them() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        lane = stage.open(shard(), None)
        stage.admit(lane, records(12))
        await stage.end(lane)
        assert judge.batches == [4, 4, 4]

    staged(body, batch_sizes=BatchSizeController(max_records=8, max_cost=0, measures=False, start=BatchPlan(4)))


def test_a_drain_waits_for_what_is_noted_before_it_is_let_in() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        lane, noted, begun = stage.open(shard(), None), list[Record](), asyncio.Event()

        async def note(last: Record) -> None:
            begun.set()
            for _ in range(20):
                await asyncio.sleep(0)
            noted.append(last)

        lane.before_entry = note
        stage.admit(lane, made := records(5))
        await begun.wait()
        await stage.end(lane)
        assert (noted, lane.durable) == ([made[-1]], made[-1].position)

    staged(body)
