"""A Parquet sink as the stage uses it: on a folder and on S3, read by plain readers, checked at start."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pandas as pd
import pyarrow as pa
import pytest
from moto import mock_aws

from pipeline.errors import ConfigError, UserError
from pipeline.record import Position, Shard
from pipeline.sinks import SinkEvents
from pipeline.sinks.parquet import ParquetSink
from pipeline.stores.base import Denied, ObjectStore
from pipeline.stores.folder import FolderStore
from pipeline.stores.memory import MemoryStore
from pipeline.stores.s3 import S3Store
from pipeline.table.schema import TableSchema
from pipeline.table.staged_letters import Ledger
from tests.support.settled_records import DAY_MS, MORNING_MS, ROWS, SCHEMA, SHARD, Told, record, run, runs

OTHER = Shard("events", 1_700_000_000, "shardId-000000000001")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in (("ACCESS_KEY_ID", "k"), ("SECRET_ACCESS_KEY", "s"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="lake")
        yield client


def sink_on(
    store: ObjectStore, dead: ObjectStore | None, schema: TableSchema = SCHEMA, puts: list[int] | None = None
) -> ParquetSink:
    return ParquetSink(
        name="table",
        store=store,
        flush_interval_s=300,
        flush_mib=64,
        schema=schema,
        ledger=None if dead is None else Ledger(dead, MemoryStore()),
        events=SinkEvents(on_put=(puts if puts is not None else []).append),
    )


async def fill(sink: ParquetSink, shard: Shard) -> None:
    """Records 1 to 49 in five files of two days; 7 is dead."""
    told = Told()
    writer = sink.open(shard, told.durable.append, told.fatal.append)
    assert await writer.resume(record(1), None) is None
    for start in range(1, 40, 10):
        writer.write(run(*(record(n, shard=shard, dead=n == 7) for n in range(start, start + 10)), shard=shard))
        await writer.flush()
        assert told.end == start + 9
    writer.write(runs(41, 50, ms=MORNING_MS + DAY_MS, shard=shard))
    await writer.flush()
    assert told.end == 49 and not told.fatal and writer.backlog_bytes == 0


def test_a_folder_of_two_shards_reads_back_with_pandas_exactly(tmp_path: Path) -> None:
    async def write() -> None:
        sink = sink_on(FolderStore(tmp_path / "table"), FolderStore(tmp_path / "dead"))
        await sink.check()
        await asyncio.gather(*(fill(sink, shard) for shard in (SHARD, OTHER)))
        await sink.check()
        await sink.close()

    asyncio.run(write())
    table = pd.read_parquet(tmp_path / "table")
    for shard in (SHARD, OTHER):
        part = table[table.shard_id == shard.shard_id]
        assert list(part.sequence_number.astype(int)) == [n for n in range(1, 50) if n != 7]
        assert list(part.text) == list(part.sequence_number)
        assert list(part.record_id) == [f"events/{shard.shard_id}/{n}/0" for n in range(1, 50) if n != 7]
    assert sorted(map(str, table.dt.unique())) == ["2026-11-18", "2026-11-19"]
    assert len(list((tmp_path / "table").rglob("*.parquet"))) == 10
    assert len(list((tmp_path / "dead").rglob("*.jsonl"))) == 2


def test_s3_holds_the_list_for_the_next_owner(s3: Any) -> None:
    store, dead, puts = S3Store(s3, "lake", "table"), S3Store(s3, "lake", "dead"), list[int]()

    async def work() -> None:
        sink = sink_on(store, dead, puts=puts)
        await sink.check()
        await fill(sink, SHARD)
        told = Told()
        owner = sink.open(SHARD, told.durable.append, told.fatal.append)
        assert await owner.resume(record(12), Position(11, 0)) == Position(49, 0)
        zombie = sink.open(SHARD, told.durable.append, told.fatal.append)
        zombie.write(runs(1, 15))
        await zombie.flush()
        assert told.durable == [Position(49, 0)]
        await sink.check()
        await sink.close()

    asyncio.run(work())
    keys = store.list("")
    heads = [store.head(key) or {} for key in keys]
    assert [head["penstock-end"] for head in heads] == ["10/0", "20/0", "30/0", "40/0", "49/0"]
    assert [head["penstock-previous-end"] for head in heads] == ["", "10/0", "20/0", "30/0", "40/0"]
    assert len(dead.list("")) == 1
    assert puts == [len(store.get(key) or b"") for key in keys]


def test_other_columns_want_another_url() -> None:
    store = MemoryStore()
    wider = TableSchema(pa.schema([*ROWS, ("more", pa.string())]), "events", "model@2")
    retrained = TableSchema(ROWS.with_metadata({"trained": "today"}), "events", "model@2")

    async def work() -> None:
        sink = sink_on(store, None)
        await fill(sink, SHARD)
        await sink_on(store, None, retrained).check()
        with pytest.raises(ConfigError, match=r"Write to a new url.*new stream\.application"):
            await sink_on(store, None, wider).check()
        await sink.close()

    asyncio.run(work())


def test_a_store_that_denies_access_fails_the_check() -> None:
    broken = MemoryStore()

    def refuse(operation: str, key: str) -> None:
        raise Denied("not yours")

    broken.before = refuse
    with pytest.raises(UserError, match="not yours"):
        asyncio.run(sink_on(broken, None).check())
    with pytest.raises(UserError, match="not yours"):
        asyncio.run(sink_on(MemoryStore(), broken).check())
