"""The stage on fakes: aggregates are taken apart."""

import asyncio

import pytest

from consumer.testing.aggregates import aggregate, field, sealed, user
from pipeline.aggregate import aggregate_or_record
from pipeline.flow.bounds import Bounds
from pipeline.flow.lane import Lane
from pipeline.hash_keys import HashRange, hash_of
from pipeline.record import Dead, Position, Record
from pipeline.stage import Stage
from pipeline.testing import FakeJudge, FakeSink
from tests.support.staged import records, shard, staged, until


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
