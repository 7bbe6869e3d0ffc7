"""A shard's writer on a store that crashes and loses answers. Without real time and threads."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.errors import Fatal
from pipeline.record import Position
from pipeline.stores.base import Denied, Retryable
from tests.support.chain_owners import World, failing, play, resumed
from tests.support.settled_records import (
    record,
    run,
    runs,
    settle,
)


def test_files_follow_each_other_by_age() -> None:
    async def work(world: World) -> None:
        writer, told = world.worker()
        assert await resumed(writer, record(1)) is None
        writer.write(runs(1, 4))
        await world.clock.pass_(299)
        assert told.durable == [] and writer.backlog_bytes > 0
        await world.clock.pass_(1)
        assert told.end == 3 and writer.backlog_bytes == 0
        writer.write(runs(4, 6))
        await world.clock.pass_(300)
        assert told.end == 5

    world = play(work)
    assert world.rows() == [1, 2, 3, 4, 5]
    assert world.links() == [("", "3/0"), ("3/0", "5/0")]


def test_a_range_of_dead_records_alone_is_committed_as_a_file_of_no_rows() -> None:
    async def work(world: World) -> None:
        writer, told = world.worker()
        await resumed(writer, record(1))
        writer.write(runs(1, 4, dead=True))
        await writer.flush()
        assert told.end == 3

    world = play(work)
    assert world.links() == [("", "3/0")]
    assert world.rows() == [] and world.letters() == [1, 2, 3]


def test_a_flush_ends_while_records_keep_coming() -> None:
    async def work(world: World) -> None:
        writer, told = world.worker()
        await resumed(writer, record(1))

        def more(operation: str, key: str) -> None:
            if operation == "put":
                writer.write(runs(3, 5))

        world.table.after = more
        writer.write(runs(1, 3))
        await writer.flush()
        await settle()
        assert told.end == 2 and writer.backlog_bytes > 0

    assert play(work).rows() == [1, 2]


def test_a_flush_covers_the_present_part_of_an_aggregate() -> None:
    async def work(world: World) -> None:
        writer, told = world.worker()
        await resumed(writer, record(1))
        writer.write(run(record(1), record(2, sub=0, whole=False)))
        await writer.flush()
        assert told.durable[-1] == Position(2, 0)
        writer.write(run(record(2, sub=1)))
        await writer.flush()
        assert told.durable[-1] == Position(2, 1)

    assert play(work).rows() == [1, 2, 2]


@pytest.mark.parametrize("lost", ["before", "after"])
def test_a_put_without_an_answer_is_made_again_with_the_same_bytes(lost: str) -> None:
    async def work(world: World) -> None:
        writer, told = world.worker()
        await resumed(writer, record(1))
        setattr(world.table, lost, failing(Retryable("no answer"), times=3))
        reads: list[str] = []
        world.dead.before = lambda operation, key: reads.append(operation)
        writer.write(runs(1, 4, dead=False))
        writer.write(runs(4, 5, dead=True))
        flushed = asyncio.create_task(writer.flush())
        await world.clock.pass_(5)
        await flushed
        assert told.durable == [Position(4, 0)] and reads == ["put"]
        waits = [wait for wait in world.clock.slept if wait < 100]
        assert len(waits) == 3 and 0.1 <= waits[0] <= 0.2 and 0.4 <= waits[2] <= 0.8

    world = play(work)
    assert world.rows() == [1, 2, 3] and world.letters() == [4]
    assert len(world.table.objects) == 1 and world.retries == 3


def test_waits_grow_to_ten_seconds_and_no_further() -> None:
    async def work(world: World) -> None:
        writer, told = world.worker()
        await resumed(writer, record(1))
        world.table.before = failing(Retryable("503"), times=300)
        writer.write(runs(1, 4))
        flushed = asyncio.create_task(writer.flush())
        await world.clock.pass_(3500)
        await flushed
        assert told.end == 3 and not told.fatal
        assert max(wait for wait in world.clock.slept if wait < 100) <= 10

    assert play(work).rows() == [1, 2, 3]


def test_a_store_that_does_not_answer_is_shown_while_it_lasts_and_ends_the_task_after_an_hour() -> None:
    async def work(world: World) -> None:
        writer, told = world.worker()
        await resumed(writer, record(1))
        world.table.before = failing(Retryable("503 SlowDown"), times=10**6)
        writer.write(runs(1, 4))
        flushed = asyncio.create_task(writer.flush())
        await world.clock.pass_(3_590)
        assert not told.fatal
        [trouble] = world.outages.current()
        assert trouble.part == "table" and trouble.reason == "503 SlowDown" and trouble.lasted_s > 3_500
        await world.clock.pass_(20)
        [error] = told.fatal
        assert isinstance(error, Fatal) and "503 SlowDown" in str(error) and not told.durable
        flushed.cancel()

    assert play(work).rows() == []


def test_a_trouble_is_over_with_the_first_answer_and_with_the_lease() -> None:
    async def work(world: World) -> None:
        writer, _ = world.worker()
        await resumed(writer, record(1))
        world.table.before = failing(Retryable("503"), times=3)
        writer.write(runs(1, 4))
        flushed = asyncio.create_task(writer.flush())
        await settle()
        assert world.outages.current()
        await world.clock.pass_(10)
        await flushed
        assert not world.outages.current()
        world.table.before = failing(Retryable("503"), times=1000)
        writer.write(runs(4, 6))
        flushed = asyncio.create_task(writer.flush())
        await settle()
        assert world.outages.current()
        writer.abandon()
        await flushed
        assert not world.outages.current()

    play(work)


def test_runs_are_taken_during_a_put_and_counted() -> None:
    async def work(world: World) -> None:
        writer, told = world.worker()
        await resumed(writer, record(1))
        world.table.before = failing(Retryable("503"), times=1)
        writer.write(runs(1, 4))
        flushed = asyncio.create_task(writer.flush())
        await settle()
        held = writer.backlog_bytes
        writer.write(runs(4, 7))
        assert writer.backlog_bytes == 2 * held
        await world.clock.pass_(1)
        await flushed
        assert writer.backlog_bytes == held and told.end == 3

    play(work)


def test_a_refusal_that_lasts_ends_the_task_after_a_minute() -> None:
    async def work(world: World) -> None:
        writer, told = world.worker()
        await resumed(writer, record(1))
        world.table.before = failing(Denied("no"), times=1000)
        writer.write(runs(1, 4))
        flushed = asyncio.create_task(writer.flush())
        await world.clock.pass_(59)
        assert not told.fatal
        await world.clock.pass_(20)
        assert [str(error) for error in told.fatal] == ["no"] and not told.durable
        flushed.cancel()

    assert play(work).rows() == []


def test_a_refusal_that_is_fixed_in_time_costs_nothing() -> None:
    async def work(world: World) -> None:
        writer, told = world.worker()
        await resumed(writer, record(1))
        world.table.before = failing(Denied("no"), times=3)
        writer.write(runs(1, 4))
        flushed = asyncio.create_task(writer.flush())
        await world.clock.pass_(10)
        await flushed
        assert told.end == 3 and not told.fatal

    play(work)


def test_a_defect_ends_the_task_and_is_not_silent() -> None:
    async def work(world: World) -> None:
        writer, told = world.worker()
        await resumed(writer, record(1))
        world.table.before = failing(ZeroDivisionError(), times=1)
        writer.write(runs(1, 4))
        flushed = asyncio.create_task(writer.flush())
        await settle()
        assert isinstance(told.fatal[0], Fatal) and "ZeroDivisionError" in str(told.fatal[0])
        flushed.cancel()

    play(work)


def test_a_lost_lease_writes_nothing_more_and_says_nothing_more() -> None:
    async def work(world: World) -> None:
        writer, told = world.worker()
        await resumed(writer, record(1))
        world.table.after = failing(Retryable("no answer"), times=1)
        writer.write(runs(1, 4))
        flushed = asyncio.create_task(writer.flush())
        await settle()
        assert len(world.table.objects) == 1
        writer.write(runs(4, 7))
        writer.abandon()
        writer.write(runs(7, 9))
        await world.clock.pass_(1000)
        await flushed
        assert told.durable == [] and writer.backlog_bytes == 0

    assert play(work).rows() == [1, 2, 3]
