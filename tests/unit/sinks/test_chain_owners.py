"""What the next owner of a shard continues from: after crashes, replays, and beside another owner."""

from __future__ import annotations

import pytest

from pipeline.record import Position
from pipeline.table.audit import audit
from pipeline.table.names import Names
from tests.support.chain_owners import World, play, resumed
from tests.support.settled_records import (
    DAY_MS,
    MORNING_MS,
    SHARD,
    record,
    run,
    runs,
)


def test_the_next_owner_continues_from_a_file_whose_checkpoint_was_lost() -> None:
    async def work(world: World) -> None:
        first, _ = world.worker()
        await resumed(first, record(1))
        for start in (1, 4):
            first.write(runs(start, start + 3))
            await first.flush()
        first.write(runs(7, 9))
        first.abandon()
        second, told = world.worker()
        assert await resumed(second, record(4), 3) == 6
        second.write(runs(4, 9))
        await second.flush()
        assert told.durable == [Position(8, 0)]

    world = play(work)
    assert world.rows() == list(range(1, 9))
    assert world.links() == [("", "3/0"), ("3/0", "6/0"), ("6/0", "8/0")]


def test_a_session_after_a_lost_rest_of_an_aggregate_logs_it_and_an_earlier_one_writes_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The rest was written, KCL's checkpoint moved on, and a user removed the file."""
    aggregate = [record(2, sub=sub, whole=sub == 3) for sub in range(4)]

    async def work(world: World) -> None:
        writer, _ = world.worker()
        await resumed(writer, record(1))
        for part in (runs(1, 2), run(*aggregate[:2]), run(*aggregate[2:])):
            writer.write(part)
            await writer.flush()
        del world.table.objects[max(world.table.objects)]
        behind, _ = world.worker()
        assert await behind.resume(record(5), Position(2, 0).end_of_record) is None
        behind.write(runs(5, 7))
        await behind.flush()
        assert "the rest of the aggregate is in no file" in caplog.text and "2/1" in caplog.text
        caplog.clear()
        before, told = world.worker()
        assert await before.resume(record(2, whole=False), Position(1, 0).end_of_record) == Position(2, 1)
        before.write(run(*aggregate, record(5), record(6)))
        await before.flush()
        assert told.durable[-1] == Position(6, 0) and not caplog.records

    world = play(work)
    assert world.rows() == [1, 2, 2, 2, 2, 5, 6]
    assert audit(world.table, world.dead).problems == []


def test_a_session_that_begins_within_an_aggregate_where_the_list_ends_misses_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    aggregate = [record(2, sub=sub, whole=sub == 3) for sub in range(4)]

    async def work(world: World) -> None:
        writer, _ = world.worker()
        await resumed(writer, record(2))
        writer.write(run(*aggregate[:2]))
        await writer.flush()
        careful, _ = world.worker()
        assert await careful.resume(aggregate[2], aggregate[1].position) is None
        careful.write(run(*aggregate[2:]))
        await careful.flush()

    world = play(work)
    assert world.rows() == [2, 2, 2, 2] and not caplog.records
    assert audit(world.table, world.dead).problems == []


@pytest.mark.parametrize(
    ("first", "checkpoint", "held"), [(1, None, 9), (2, 1, 9), (6, None, 9), (9, 8, 9), (10, 9, None)]
)
def test_a_replay_from_anywhere_finds_the_list(first: int, checkpoint: int | None, held: int | None) -> None:
    async def work(world: World) -> None:
        writer, _ = world.worker()
        await resumed(writer, record(1))
        for start in (1, 4, 7):
            day = MORNING_MS + (DAY_MS if start == 7 else 0)
            writer.write(runs(start, start + 3, ms=day))
            await writer.flush()
        again, told = world.worker()
        day = MORNING_MS + (DAY_MS if first >= 7 else 0)
        assert await resumed(again, record(first, ms=day), checkpoint) == held
        again.write(runs(first, 12, ms=MORNING_MS + DAY_MS))
        await again.flush()
        assert told.end == 11

    world = play(work)
    assert world.rows() == list(range(1, 12))
    assert world.links()[-1] == ("9/0", "11/0")


def test_a_replay_from_before_the_list_joins_it_without_overlap() -> None:
    async def work(world: World) -> None:
        late, _ = world.worker()
        await resumed(late, record(5))
        late.write(runs(5, 8))
        await late.flush()
        early, told = world.worker()
        assert await resumed(early, record(1)) is None
        early.write(runs(1, 11))
        await early.flush()
        assert told.durable == [Position(4, 0), Position(7, 0), Position(10, 0)]

    assert play(work).rows() == list(range(1, 11))


def test_a_hole_in_the_list_is_not_jumped_over() -> None:
    async def work(world: World) -> None:
        for start in (7, 1):
            writer, _ = world.worker()
            await resumed(writer, record(start))
            writer.write(runs(start, start + 3))
            await writer.flush()
        again, told = world.worker()
        assert await resumed(again, record(1)) == 3
        again.write(runs(1, 12))
        await again.flush()
        assert told.durable == [Position(6, 0), Position(9, 0), Position(11, 0)]

    assert play(work).rows() == list(range(1, 12))


def test_a_zombie_that_was_first_is_adopted_and_followed() -> None:
    async def work(world: World) -> None:
        zombie, zombie_told = world.worker()
        owner, told = world.worker()
        await resumed(zombie, record(1))
        await resumed(owner, record(1))
        for start, stop in ((1, 4), (4, 6)):
            zombie.write(runs(start, stop))
            await zombie.flush()
        owner.write(runs(1, 9))
        await owner.flush()
        assert told.durable == [Position(5, 0), Position(8, 0)]
        zombie.write(runs(6, 12))
        await zombie.flush()
        assert zombie_told.durable[-2:] == [Position(8, 0), Position(11, 0)]

    world = play(work)
    assert world.rows() == list(range(1, 12))
    assert [previous for previous, _ in world.links()] == ["", "3/0", "5/0", "8/0"]


def test_two_lives_of_a_stream_do_not_meet() -> None:
    names = Names(SHARD)
    reborn = Names(type(SHARD)(SHARD.stream, SHARD.stream_created_s + 1, SHARD.shard_id))
    assert names.key(record(1)) != reborn.key(record(1))
    assert not reborn.key(record(1)).startswith(names.day(MORNING_MS))
