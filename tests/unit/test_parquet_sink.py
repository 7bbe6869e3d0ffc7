"""A Parquet sink's writers on a store: what readers see, and when a range counts as durable."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pandas as pd

from pipeline.record import Shard
from pipeline.sinks.parquet import ParquetSink
from pipeline.sinks.store_folder import FolderStore
from tests.settled import DAY_MS, MORNING_MS, SCHEMA, SHARD, Told, record, run, runs


def test_a_folder_of_two_shards_reads_back_with_pandas_exactly(tmp_path: Path) -> None:
    other = Shard("events", 1_700_000_000, "shardId-000000000001")

    async def write() -> None:
        sink = ParquetSink(
            name="table",
            store=FolderStore(tmp_path / "table"),
            generation=3,
            flush_interval_s=300,
            flush_mib=64,
            schema=SCHEMA,
            dead_letters=FolderStore(tmp_path / "dead"),
        )
        await sink.check()
        for shard in (SHARD, other):
            told = Told()
            writer = sink.open(shard, told.durable.append, told.fatal.append)
            assert await writer.resume(record(1), None) is None
            for start in range(1, 40, 10):
                writer.write(run(*(record(n, shard=shard, dead=n == 7) for n in range(start, start + 10)), shard=shard))
                await writer.flush()
                assert told.end == start + 9
            writer.write(runs(41, 50, ms=MORNING_MS + DAY_MS, shard=shard))
            await writer.flush()
            assert told.end == 49 and not told.fatal
            assert writer.backlog_bytes == 0
        await sink.check()
        await sink.close()

    asyncio.run(write())
    table = pd.read_parquet(tmp_path / "table")
    for shard in (SHARD, other):
        part = table[table.shard_id == shard.shard_id]
        assert list(part.sequence_number.astype(int)) == [n for n in range(1, 50) if n != 7]
        assert list(part.text) == list(part.sequence_number)
        assert list(part.record_id) == [f"events/{shard.shard_id}/{n}/0" for n in range(1, 50) if n != 7]
    assert len(list((tmp_path / "table").rglob("*.parquet"))) == 10
    assert len(list((tmp_path / "dead").rglob("*.jsonl"))) == 2
