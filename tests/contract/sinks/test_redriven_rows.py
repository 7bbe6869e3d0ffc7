"""Redriven rows on every store: several writers add to one list at once, and each record gets one row."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.record import Enriched, Record
from pipeline.stores import open_store
from pipeline.stores.base import ObjectStore
from pipeline.stores.memory import MemoryStore
from pipeline.table.redriven import RedrivenRows, redriven_keys
from tests.contract.sinks.test_store import bucket
from tests.support.dead_table import FIRST_MS, ROWS, SHARD, DeadTable, dead

__all__ = ["bucket"]

PLACE = "dt=2026-11-18/1-shardId-000000000000"
AT_ONCE, LETTERS = 6, 40


@pytest.fixture(params=["memory", "folder", "s3"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> DeadTable:
    client: Any = request.getfixturevalue("bucket") if request.param == "s3" else None

    def store(name: str) -> ObjectStore:
        url = {"folder": str(tmp_path / name), "s3": f"s3://lake/{name}"}.get(request.param)
        return open_store(url, lambda: client) if url else MemoryStore()

    return DeadTable(store("table"), store("dead"), store("staged"), store("notes"), per_day=1000)


def record(n: int) -> Record:
    batch = pa.RecordBatch.from_pylist([{"n": n}], schema=ROWS)
    return Record(SHARD.shard_id, b"", f"key-{n}", str(n), 0, FIRST_MS, outcome=Enriched(batch, 0))


def test_several_at_once_give_each_record_one_row(stores: DeadTable) -> None:
    stores.write([dead(n) for n in range(1, LETTERS + 1)])

    def add(number: int) -> None:
        rows = RedrivenRows(stores.table, PLACE, stores.schema)
        for first in range(1 + number % 3, LETTERS, 7):
            rows.add([record(n) for n in range(first, min(first + 10, LETTERS + 1))], f"w{number}")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(add, range(AT_ONCE)))
    report = stores.audit()
    assert report.problems == []
    assert (report.rows, report.redriven) == (LETTERS, LETTERS)
    assert len(redriven_keys(stores.table, PLACE)) > 1
