"""A shard's writer on a store that crashes, loses answers, and has other writers. Without real time and threads."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
import pandas as pd
import pyarrow as pa
import pytest

from pipeline.errors import Fatal
from pipeline.outages import Outages
from pipeline.record import Enriched, Position, Record
from pipeline.sinks import SinkEvents
from pipeline.sinks.chain import Chain, File
from pipeline.sinks.chain_writer import ChainWriter
from pipeline.sinks.parquet import Files
from pipeline.stores.base import Denied, Retryable
from pipeline.stores.memory import MemoryStore
from pipeline.table.audit import audit
from pipeline.table.footer import DEAD, ROWS
from pipeline.table.names import Names
from pipeline.table.schema import TableSchema
from pipeline.table.staged_letters import Ledger
from tests.support.settled_records import (
    DAY_MS,
    MORNING_MS,
    SCHEMA,
    SHARD,
    Clock,
    Inline,
    Told,
    record,
    run,
    runs,
    settle,
)

Work = Callable[["World"], Coroutine[Any, Any, None]]


class World:
    """A table and its dead letters, and any number of workers that believe that they own the shard."""

    def __init__(self) -> None:
        self.table = MemoryStore()
        self.dead = MemoryStore()
        self.staged = MemoryStore()
        self.clock = Clock()
        self.outages = Outages(self.clock)
        self.retries = 0
        self.told: list[Told] = []

    def worker(self, *, flush_bytes: int = 1 << 30) -> tuple[ChainWriter, Told]:
        told = Told()
        self.told.append(told)
        names = Names(SHARD)
        writer = ChainWriter(
            Chain(names, flush_interval_s=300, flush_bytes=flush_bytes),
            Files(self.table, names, SCHEMA, Ledger(self.dead, self.staged)),
            told.durable.append,
            told.fatal.append,
            call=Inline(),
            part=self.outages.part("table", give_up_after_s=3600),
            on_retry=self.retried,
            clock=self.clock,
            sleep=self.clock.sleep,
        )
        return writer, told

    def retried(self) -> None:
        self.retries += 1

    def rows(self) -> list[int]:
        """The rows that a plain reader sees, in the order of the files' names within each day."""
        frames = [pd.read_parquet(io.BytesIO(self.table.objects[key][0])) for key in sorted(self.table.objects)]
        return [int(number) for frame in frames for number in frame.sequence_number]

    def letters(self) -> list[int]:
        bodies = [self.dead.objects[key][0] for key in sorted(self.dead.objects)]
        return [int(orjson.loads(line)["sequence_number"]) for body in bodies for line in body.splitlines()]

    def links(self) -> list[tuple[str, str]]:
        found = [self.table.objects[key][1] for key in sorted(self.table.objects)]
        return [(metadata["penstock-previous-end"], metadata["penstock-end"]) for metadata in found]


def play(work: Work) -> World:
    world = World()
    asyncio.run(_guarded(work(world)))
    return world


async def _guarded(work: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(20):
        await work


def failing(error: Exception, *, times: int, operation: str = "put") -> Callable[[str, str], None]:
    left = [times]

    def fault(called: str, key: str) -> None:
        if called == operation and left[0]:
            left[0] -= 1
            raise error

    return fault


async def resumed(writer: ChainWriter, first: Record, checkpoint: int | None = None) -> int | None:
    held = await writer.resume(first, None if checkpoint is None else Position(checkpoint, 0))
    return None if held is None else held.sequence


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


# -- dead letters


def test_dead_letters_are_written_before_their_range_is_durable() -> None:
    async def work(world: World) -> None:
        writer, told = world.worker()
        await resumed(writer, record(1))
        world.dead.before = failing(Retryable("503"), times=1)
        writer.write(run(record(1), record(2, dead=True), record(3)))
        flushed = asyncio.create_task(writer.flush())
        await settle()
        assert world.rows() == [1, 3] and told.durable == []
        await world.clock.pass_(1)
        await flushed
        assert told.end == 3

    world = play(work)
    assert world.letters() == [2]
    key, (body, _) = next(iter(world.dead.objects.items()))
    assert key == next(iter(world.table.objects)).replace(".parquet", ".jsonl")
    letter = orjson.loads(body)
    assert letter["record_id"] == "events/shardId-000000000000/2/0"
    assert letter["payload_base64"] == "cGF5bG9hZCAyLzA=" and letter["attempts"] == 2
    assert set(letter) >= {"stream", "shard_id", "arrived_at", "failed_at", "reason", "traceback", "model_version"}


@pytest.mark.parametrize("how", ["resume", "adopt"])
def test_dead_letters_of_a_writer_that_died_after_its_file_are_written_by_the_next(how: str) -> None:
    async def work(world: World) -> None:
        first, first_told = world.worker()
        second, told = world.worker()
        await resumed(first, record(1))
        if how == "adopt":
            await resumed(second, record(1))
        world.dead.before = failing(Retryable("503"), times=1)
        first.write(run(record(1), record(2, dead=True), record(3, dead=True)))
        flushed = asyncio.create_task(first.flush())
        await settle()
        first.abandon()
        await flushed
        assert not first_told.durable and world.letters() == []
        if how == "resume":
            assert await resumed(second, record(1)) == 3
        second.write(runs(1, 5))
        await second.flush()
        assert told.end == 4

    world = play(work)
    assert world.letters() == [2, 3] and world.rows() == [1, 4]


def test_tables_that_share_a_dead_letter_url_stay_separate() -> None:
    async def work(world: World) -> None:
        for _ in range(2):
            writer, _ = world.worker()
            await resumed(writer, record(1))
            writer.write(run(record(1, dead=True), *([record(2, dead=True)] if world.dead.objects else [])))
            await writer.flush()
            world.table = MemoryStore()

    assert sorted(play(work).letters()) == [1, 1, 2]


def test_a_row_that_parquet_cannot_hold_is_a_dead_letter_of_its_sink_and_the_file_is_written() -> None:
    """The check in the replica does not refuse such a row."""
    rows = pa.schema([("at", pa.timestamp("s"))])
    schema = TableSchema(rows, "events", "model@1")
    counts = pa.array([0, 2**62, 7], pa.int64()).view(pa.timestamp("s"))
    batch = pa.RecordBatch.from_arrays([counts], schema=rows)
    records = [record(number) for number in (1, 2, 3)]
    for place, each in enumerate(records):
        each.outcome = Enriched(batch, place)
    table, dead, staged = MemoryStore(), MemoryStore(), MemoryStore()
    refused: list[int] = []
    names = Names(SHARD)
    files = Files(
        table, names, schema, Ledger(dead, staged), name="parquet:x", events=SinkEvents(on_refused=refused.append)
    )
    file = File(names.key(records[0]), records, None, records[-1].position)
    assert files.prepare(file, "w" * 32)() == Position(3, 0)
    [(body, metadata)] = table.objects.values()
    assert pd.read_parquet(io.BytesIO(body)).sequence_number.tolist() == ["1", "3"]
    assert (metadata[ROWS], metadata[DEAD]) == ("2", "1")
    [(letters, _)] = dead.objects.values()
    letter = orjson.loads(letters)
    assert (letter["kind"], letter["sink"], letter["sequence_number"]) == ("sink", "parquet:x", "2")
    assert "overflow" in letter["reason"] and refused == [1]
