"""The dead letters of a chain: durable with their range, once."""

from __future__ import annotations

import asyncio
import io

import orjson
import pandas as pd
import pyarrow as pa
import pytest

from pipeline.record import Enriched, Position
from pipeline.sinks import SinkEvents
from pipeline.sinks.chain import File
from pipeline.sinks.parquet import Files
from pipeline.stores.base import Retryable
from pipeline.stores.memory import MemoryStore
from pipeline.table.footer import DEAD, ROWS
from pipeline.table.names import Names
from pipeline.table.schema import TableSchema
from pipeline.table.staged_letters import Ledger
from tests.support.chain_owners import World, failing, play, resumed
from tests.support.settled_records import (
    SHARD,
    record,
    run,
    runs,
    settle,
)


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
