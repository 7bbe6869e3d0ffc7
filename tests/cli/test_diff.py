"""``penstock diff``: its output, its JSON, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from consumer.cli import main
from pipeline.record import Enriched, Record, Shard
from pipeline.sinks.chain import Chain
from pipeline.sinks.parquet import Files
from pipeline.stores.folder import FolderStore
from pipeline.table.names import Names
from pipeline.table.schema import TableSchema

ROWS = pa.schema([("label", pa.string()), ("score", pa.float32())])
SHARD = Shard("events", 1, "shardId-000000000000")


def table(folder: Path, rows: list[tuple[int, str, float]], version: str = "m") -> Path:
    chain = Chain(Names(SHARD), flush_interval_s=0, flush_bytes=10**6)
    for sequence, label, score in rows:
        batch = pa.RecordBatch.from_pylist([{"label": label, "score": score}], schema=ROWS)
        chain.add([Record(SHARD.shard_id, b"", "key", str(sequence), 0, 0, outcome=Enriched(batch, 0))], 0.0)
    files = Files(FolderStore(folder), Names(SHARD), TableSchema(ROWS, "events", version), None)
    chain.seal()
    while file := chain.next(0.0):
        chain.written(files.prepare(file, "w")())
    return folder


def diff(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["diff", *map(str, words)], prog_name="penstock")


def test_equal_tables(tmp_path: Path) -> None:
    a = table(tmp_path / "a", [(1, "good", 0.5), (2, "bad", 0.25)])
    b = table(tmp_path / "b", [(1, "good", 0.5), (2, "bad", 0.25000003)], version="m2")
    result = diff(a, b)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"table A: {a}",
        f"table B: {b}",
        "\ttable A\ttable B",
        "rows\t2\t2",
        "rows of a record that is there twice\t0\t0",
        "dead letters\t0\t0",
        "records that only this table has\t0\t0",
        "2 records in both tables, 0 changed: the tables are equal (floats differ by at most 2.98e-08)",
    ]


def test_tables_that_differ(tmp_path: Path) -> None:
    a = table(tmp_path / "a", [(1, "good", 0.5), (2, "bad", 0.25), (3, "bad", 0)])
    b = table(tmp_path / "b", [(1, "bad\x1b[2J", 0.5), (2, "bad", 0.75), (4, "bad", 0)])
    result = diff(a, b)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"table A: {a}",
        f"table B: {b}",
        "\ttable A\ttable B",
        "rows\t3\t3",
        "rows of a record that is there twice\t0\t0",
        "dead letters\t0\t0",
        "records that only this table has\t1\t1",
        "column\tvalues that differ\tlargest difference of floats",
        "label\t1\t",
        "score\t1\t0.5",
        "example\trecord\tcolumn\tA\tB",
        "missing\tevents/shardId-000000000000/3/0\t\t\t",
        "extra\tevents/shardId-000000000000/4/0\t\t\t",
        "changed\tevents/shardId-000000000000/1/0\tlabel\tgood\tbad\\x1b[2J",
        "changed\tevents/shardId-000000000000/2/0\tscore\t0.25\t0.75",
        "2 records in both tables, 2 changed: the tables are not equal",
    ]
    said = json.loads(diff(a, b, "--json").stdout)
    assert next(iter(said)) == "schema" and said["schema"] == "penstock.diff/1"
    assert (said["equal"], said["missing"], said["extra"], said["changed"]) == (False, 1, 1, 2)
    assert said["columns"]["score"] == {"changed": 1, "largest": 0.5}


def test_columns_that_are_not_compared_are_not_a_difference(tmp_path: Path) -> None:
    a, b = table(tmp_path / "a", [(1, "good", 0.5)]), table(tmp_path / "b", [(1, "bad", 0.5)])
    assert diff(a, b, "--ignore", "label").exit_code == 0
    assert diff(a, b, "--columns", "score, record_id").exit_code == 0
    assert diff(a, b, "--columns", "label").exit_code == 1


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    result = diff(table(tmp_path / "a", [(1, "good", 0.5)]), tmp_path / "nothing")
    assert result.exit_code == 2
    assert result.stderr == (
        f"penstock: {tmp_path / 'nothing'} has no files of a table. Name the url of a Parquet sink, without dt=\n"
    )


def test_a_bucket_with_an_impossible_name_is_said_without_patterns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    result = diff("s3://not_a bucket!/x", tmp_path)
    assert result.exit_code == 2
    assert result.stderr == (
        'penstock: URL_A: "s3://not_a bucket!/x" has no valid bucket name. Write s3://bucket/prefix; '
        "a bucket's name has 3 to 63 of a-z, 0-9, '-' and single '.'\n"
    )
