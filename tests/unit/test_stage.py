"""The stage on fakes: order, back-pressure, drains, lost leases."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from consumer.testing.aggregates import aggregate, field, sealed, user
from pipeline.aggregate import aggregate_or_record
from pipeline.batching.batch_size import BatchSizeController
from pipeline.batching.batcher import Batcher, BatchPlan
from pipeline.dead_letters.limit import Limits
from pipeline.dead_letters.log import DeadLetterLog
from pipeline.errors import Fatal
from pipeline.flow.bounds import Bounds
from pipeline.flow.lane import BEHIND_MS, Lane
from pipeline.flow.misplaced import HashRanges, Misplaced, unknown
from pipeline.hash_keys import HashRange, hash_of
from pipeline.metrics import Metrics
from pipeline.record import Dead, Position, Record, Shard
from pipeline.stage import Stage
from pipeline.testing import FakeJudge, FakeSink, dead
from pipeline.testing.fake_ports import enriched

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
    within: HashRanges = unknown,
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


# -- aggregates


def held(data: bytes, sequence: int = 100, number: int = 0) -> Record:
    return aggregate_or_record(Record(shard(number).shard_id, data, "key", str(sequence), 0, 1))


def test_an_aggregate_is_taken_apart_as_the_window_has_room() -> None:
    """The limits hold at every batch, although 5,000 records were admitted at once and two shards share the bytes."""
    most: list[tuple[int, int]] = []

    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        whole = stage._announce

        def watched(but: Lane | None = None) -> None:
            lanes = list(stage._lanes.values())
            most.append((max(len(lane.window) for lane in lanes), stage.bytes))
            whole(but)

        stage._announce = watched  # type: ignore[method-assign]
        lanes = [stage.open(shard(number), None) for number in (0, 1)]
        for number, lane in enumerate(lanes):
            stage.admit(lane, [held(aggregate([b"x" * 20] * 2500), 100 + n, number) for n in range(2)])
            assert lane.unsettled == 5000
            assert not stage.has_room(lane)
        for number, lane in enumerate(lanes):
            await stage.end(lane)
            assert lane.durable == Position(101, 2499)
            positions = [record.position for record in sinks[0].rows[shard(number).shard_id]]
            assert positions == [Position(100 + n, sub) for n in range(2) for sub in range(2500)]
        assert stage.bytes == 0

    bounds = Bounds(records_per_shard=100, total_bytes=600_000)
    staged(body, bounds=bounds)
    assert max(records for records, _ in most) <= bounds.records_per_shard
    assert max(size for _, size in most) <= bounds.total_bytes


def test_broken_user_records_are_dead_and_their_neighbours_are_not() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        lane = stage.open(shard(), None)
        body = field(1, b"k") + user(b"1") + user(b"2", 7) + user(b"3")
        stage.admit(lane, [held(sealed(body)), held(sealed(b"\x1a\x7f"), 101), held(sealed(user(b"x", 3)), 102)])
        await stage.end(lane)
        rows = sinks[0].rows[shard().shard_id]
        assert [str(row.position) for row in rows] == ["100/0", "100/1", "100/2", "101/0", "102/0"]
        kinds = [row.outcome.kind if isinstance(row.outcome, Dead) else "" for row in rows]
        assert kinds == ["", "aggregate", "", "aggregate", "aggregate"]
        payloads = [row.outcome.payload for row in rows if isinstance(row.outcome, Dead)]
        assert payloads == [b"2", sealed(b"\x1a\x7f"), b"x"]

    staged(body)
    staged(body, judge=lambda: FakeJudge(cost=1))


def test_an_aggregate_of_another_shards_records_is_delivered_and_counts_once(caplog: pytest.LogCaptureFixture) -> None:
    """An aggregate counts once, however many of its records are misplaced and in however many pieces it is
    taken apart."""
    asked: list[str] = []

    async def within(shard_id: str) -> HashRange | None:
        asked.append(shard_id)
        return HashRange(0, hash_of("here"))

    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        lane = stage.open(shard(), None)
        there = str(hash_of("here") + 1)
        stage.admit(lane, [held(aggregate([b"x"] * 300, ["here"]), 100)])
        stage.admit(lane, [held(aggregate([b"x"] * 300, ["here"], [there]), 101), *records(10, 102)])
        stage.admit(lane, [held(aggregate([b"x"] * 300, ["here"], [there]), 112)])
        await stage.end(lane)
        assert len(sinks[0].rows[shard().shard_id]) == 910
        assert b"penstock_misplaced_aggregates_total 2.0" in stage.metrics.exposition()

    staged(body, within=within)
    assert asked == [shard().shard_id]
    lines = [entry.message for entry in caplog.records if "another shard" in entry.message]
    assert len(lines) == 2
    assert "events/shardId-000000000000/101 holds" in lines[0]
    assert lines[1].endswith("records: 1 of shardId-000000000000")


def test_no_aggregate_is_misplaced_where_hash_keys_are_not_known() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        lane = stage.open(shard(), None)
        stage.admit(lane, [held(aggregate([b"x"] * 30, ["k"], ["7"]))])
        await stage.end(lane)
        assert b"penstock_misplaced_aggregates_total 0.0" in stage.metrics.exposition()

    staged(body)


def test_a_session_continues_inside_an_aggregate() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        sinks[0].held[shard().shard_id] = Position(101, 1500)
        lane = stage.open(shard(), None)
        stage.admit(lane, [held(aggregate([b"x"] * 2000), 100 + n) for n in range(3)])
        await stage.end(lane)
        assert sum(judge.batches) == 499 + 2000
        assert sinks[0].rows[shard().shard_id][0].position == Position(101, 1501)

    staged(body)


def test_leaving_within_an_aggregate_keeps_what_the_model_has_begun() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        lane = stage.open(shard(), None)
        stage.admit(lane, [held(aggregate([b""] * 170_000))])
        await until(lane, lambda: (lane.durable or Position(0, 0)).sub > 50)
        await stage.drain(lane)
        assert lane.durable is not None and 50 < lane.durable.sub < 1000
        stage.abandon(lane)
        assert stage.bytes == 0

    staged(body)


def test_a_stalled_sink_bounds_what_is_taken_out_of_aggregates() -> None:
    async def body(stage: Stage, judge: FakeJudge, sinks: list[FakeSink]) -> None:
        sinks[0].stall()
        lane = stage.open(shard(), None)
        stage.admit(lane, [held(aggregate([b""] * 5000))])
        for _ in range(300):
            await asyncio.sleep(0)
        await until(lane, lambda: not len(lane.window))
        assert 0 < sum(judge.batches) <= 100_000 / 500
        sinks[0].recover()
        await stage.end(lane)
        assert sum(judge.batches) == 5000

    staged(body, bounds=Bounds(records_per_shard=100, total_bytes=100_000), bytes_per_record=1_000)


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
