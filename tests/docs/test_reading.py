"""The recipes in ``docs/reading.md`` run as they are printed, on a table that the real sink has written."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.record import Dead, Enriched, Record, Run, Shard
from pipeline.sinks import SinkEvents
from pipeline.sinks.parquet import ParquetSink
from pipeline.stores.folder import FolderStore
from pipeline.table import samples
from pipeline.table.schema import TableSchema, encode
from pipeline.table.staged_letters import Ledger
from tests.docs.rendered import DOCS
from tests.docs.types_of_readers import READERS

TEXT = (DOCS / "reading.md").read_text()
SHARD = Shard("reviews", 1_700_000_000, "shardId-000000000000")
COLUMNS = pa.schema([("product", pa.string()), ("label", pa.string()), ("score", pa.float32())])
DAY_MS = 86_400_000
FIRST_DAY_MS = 1_795_000_000_000 // DAY_MS * DAY_MS  # 2026-11-18
REFUSED = "refused"
PAYLOAD = b'{"text": null}'


def record(number: int, ms: int) -> Record:
    """A record that is enriched, except number 3."""
    made = Record(SHARD.shard_id, PAYLOAD, None, str(10**55 + number), 0, ms)
    if number == 3:
        made.outcome = Dead(PAYLOAD, "no text", "Traceback", 1, "exception")
    else:
        row = pa.RecordBatch.from_pylist([{"product": "kettle", "label": None, "score": number}], COLUMNS)
        made.outcome = Enriched(row, 0)
    return made


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``out/enriched`` and ``out/dead-letter``: five rows of two days, and one dead letter."""
    folder = tmp_path_factory.mktemp("reading")
    asyncio.run(write(folder / "out"))
    return folder


async def write(out: Path) -> None:
    sink = ParquetSink(
        name="table",
        store=FolderStore(out / "enriched"),
        flush_interval_s=300,
        flush_mib=64,
        schema=TableSchema(COLUMNS, "reviews", "words-1"),
        ledger=Ledger(FolderStore(out / "dead-letter"), FolderStore(out / "dead-letter.staged")),
        events=SinkEvents(),
    )
    fatal: list[BaseException] = []
    writer = sink.open(SHARD, lambda end: None, fatal.append)
    await writer.resume(record(1, FIRST_DAY_MS), None)
    writer.write(Run(SHARD, [record(number, FIRST_DAY_MS) for number in range(1, 5)]))
    writer.write(Run(SHARD, [record(number, FIRST_DAY_MS + DAY_MS) for number in range(5, 7)]))
    await writer.flush()
    await sink.close()
    assert not fatal


def recipe(reader: str) -> str:
    section = TEXT.partition(f"\n## {reader}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert blocks, reader
    return "\n".join(blocks)


@pytest.mark.parametrize("reader", READERS)
def test_each_recipe_finds_the_rows_the_day_and_the_dead_letters(
    reader: str, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(written)
    found: dict[str, Any] = {}
    exec(compile(recipe(reader), f"reading.md, {reader}", "exec"), found)
    assert lengths(found) == (5, 3, 1)
    assert told(found["letters"], "sequence_number") == [str(10**55 + 3)]
    assert told(found["letters"], "reason") == ["no text"]


def lengths(found: dict[str, Any]) -> tuple[int, ...]:
    return tuple(len(found[name]) for name in ("rows", "day", "letters"))


def told(letters: Any, column: str) -> list[str]:
    """A column of the dead letters, as a list, for any library."""
    if isinstance(letters, list):
        return [letter[column] for letter in letters]
    if hasattr(letters, "fetchall"):
        return [row[0] for row in letters.select(column).fetchall()]
    return list(letters[column])


def types() -> list[dict[str, str]]:
    """The table of types: one row per type, with its cells by column name, without backticks."""
    lines = [line for line in TEXT.partition("\n## Types\n")[2].partition("\n## ")[0].splitlines() if line[:1] == "|"]
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


@pytest.mark.parametrize("reader", READERS)
def test_each_reader_makes_of_our_types_what_the_table_says(reader: str, tmp_path: Path) -> None:
    for row in types():
        kind = eval(row["column"], {"pa": pa})
        file = tmp_path / "file.parquet"
        file.write_bytes(encode(samples.table(pa.schema([("column", kind)])), {}))
        assert made_by(reader, file) == row[reader], row["column"]


def made_by(reader: str, file: Path) -> str:
    try:
        return READERS[reader](file)["column"]
    except Exception:  # noqa: BLE001  # each reader has errors of its own
        return REFUSED


def test_our_own_columns_are_in_the_document() -> None:
    section = TEXT.partition("\n## What is in it\n")[2].partition("\n## ")[0]
    schema = TableSchema(COLUMNS, "reviews", "words-1").schema
    ours = [field for field in schema if field.name not in COLUMNS.names]
    assert re.findall(r"(?m)^\| `(\w+)` \|", section) == [*(field.name for field in ours), "dt"]
