"""``penstock promote check``: two models, one set of records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from consumer.cli import main
from consumer.config.settings import Settings
from consumer.promotion import answers
from consumer.tuning import trial
from consumer.tuning.trial import Tried
from pipeline.record import Enriched, Position, Record, Shard
from pipeline.sinks.chain import File
from pipeline.sinks.parquet import Files
from pipeline.stores.folder import FolderStore
from pipeline.table.names import Names
from pipeline.table.schema import TableSchema

CONFIG = """
[stream]
name = "events"
application = "app"
[model]
factory = "{factory}"
version = "{version}"
[[sink]]
type = "parquet"
url = "{url}"
[dead_letter]
url = "dead"
"""
MODEL = """
import pyarrow as pa
class {name}:
    output_schema = pa.schema([("n", pa.int64()), ("half", pa.float32())])
    def predict(self, items):
        return [{{"n": item["n"], "half": item["n"] / 2 + {off}}} for item in items]
"""
STORED = pa.schema([("n", pa.int64()), ("half", pa.float32())])
ARRIVED_MS = int(datetime(2026, 1, 31, 8, tzinfo=UTC).timestamp() * 1000)


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.table = path / "out"
        (path / "penstock.toml").write_text(self.config("old", "Old", "1"))
        (path / "new.toml").write_text(self.config("new", "New", "2"))
        (path / "old.py").write_text(MODEL.format(name="Old", off=0))
        (path / "new.py").write_text(MODEL.format(name="New", off=0))
        (path / "golden.jsonl").write_text("".join(f'{{"n": {number}}}\n' for number in range(1, 9)))

    def config(self, module: str, name: str, version: str, url: str = "") -> str:
        return CONFIG.format(factory=f"{module}:{name}", version=version, url=url or self.table)

    def check(self, *words: str) -> Result:
        given = ["promote", "check", "--config", str(self.path / "new.toml"), "--measure", "0s", *words]
        return CliRunner().invoke(main, given, prog_name="penstock")

    def against_old(self, *words: str) -> Result:
        return self.check("--old", str(self.path / "penstock.toml"), *words)

    def tailed(self, count: int) -> None:
        """Golden records as `penstock tail` prints them, and a table that has rows of them."""
        records = [
            Record("shardId-000000000000", json.dumps({"n": n}).encode(), f"{n}", f"{1000 + n}", 0, ARRIVED_MS)
            for n in range(1, count + 1)
        ]
        lines = [
            {"shard_id": each.shard_id, "sequence_number": each.sequence, "sub_sequence_number": 0,
             "partition_key": each.partition_key, "arrived_at": "2026-01-31T08:00:00.000+00:00",
             "data": json.loads(each.data)}
            for each in records
        ]  # fmt: skip
        (self.path / "golden.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        half = count // 2
        self.write(records[:half], None)
        self.write(records[half:-1], records[half - 1].position)

    def write(self, records: list[Record], after: Position | None) -> None:
        batch = pa.record_batch([[json.loads(each.data)["n"] for each in records]] * 2, names=STORED.names)
        batch = batch.cast(STORED)
        for place, record in enumerate(records):
            record.settle(Enriched(batch, place))
        names = Names(Shard("events", 1_700_000_000, records[0].shard_id))
        files = Files(FolderStore(self.table), names, TableSchema(STORED, "events", "1"), None)
        files.prepare(File(names.key(records[0]), records, after, records[-1].position), uuid4().hex)()


ANSWERS: dict[tuple[str, ...], Tried] = {}


@pytest.fixture(autouse=True)
def _each_model_answers_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same model starts once for all tests that give it the same records: half a second of the processor each."""

    def once(settings: Settings, records: Sequence[Record], measure_s: float) -> Tried:
        module, _, name = settings.model.factory.partition(":")
        source = (settings.folder / f"{module}.py").read_text()
        key = (source, name, settings.model.version, *(each.data.decode() for each in records))
        if key not in ANSWERS:
            ANSWERS[key] = trial.judged(settings, records, measure_s)
        return ANSWERS[key]

    monkeypatch.setattr(answers, "judged", once)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def said(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    assert next(iter(found)) == "schema" and found["schema"] == "penstock.promote.check/1"
    return found


def test_a_model_with_the_same_answers_passes(folder: Folder) -> None:
    result = folder.against_old("--json", "--least-speed", "0")
    assert result.exit_code == 0, result.output
    found = said(result)
    assert found["passed"] is True and found["problems"] == []
    assert (found["old"]["versions"], found["new"]["versions"], found["new"]["rows"]) == (["1"], ["2"], 8)
    assert found["new"]["records_per_s"] > 0
    assert found["columns"]["half"] == {"values": 8, "changed": 0, "tolerance": 1e-05, "largest": 0.0}
    assert not folder.table.exists()


def test_other_values_and_new_dead_letters_are_reported(folder: Folder) -> None:
    picky = MODEL.format(name="New", off=0.25).replace("[{", 'Reject("3") if item["n"] == 3 else {', 1)
    picky = f"from pipeline.model import Reject\n{picky.replace('return Reject', 'return [Reject')}"
    (folder.path / "new.py").write_text(picky)
    result = folder.against_old("--least-speed", "0")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert "half\t7\t7\t1e-05\t0.25" in lines and "n\t7\t0\t\t" in lines
    assert lines[-3] == "the new model must not be promoted:"
    assert "1 record with an old row, but with a dead letter now, such as record 3: rejected: 3" in lines[-2]
    assert "column half: 7 of 7 values differ (100.0%" in lines[-1]


def test_other_columns_are_refused_under_one_url(folder: Folder) -> None:
    (folder.path / "new.py").write_text(MODEL.format(name="New", off=0).replace("float32", "float64"))
    refused = folder.against_old("--least-speed", "0")
    assert refused.exit_code == 3
    assert "half is double, was float" in refused.stderr and "Set a new sink.url" in refused.stderr


def test_the_rows_of_the_table_serve_as_the_old_answers(folder: Folder) -> None:
    folder.tailed(6)
    (folder.path / "new.py").write_text(MODEL.format(name="New", off=0).replace('item["n"] / 2', 'float(item["n"])'))
    result = folder.check("--json")
    assert result.exit_code == 0, result.output
    found = said(result)
    assert (found["old"]["versions"], found["old"]["rows"], found["old"]["records_per_s"]) == (["1"], 5, None)
    assert found["unanswered"] == 1 and found["columns"]["half"]["values"] == 5
    (folder.path / "new.py").write_text(MODEL.format(name="New", off=0))
    assert folder.check().exit_code == 1
    (folder.path / "new.py").write_text(MODEL.format(name="New", off=0).replace("half", "third"))
    assert folder.check().exit_code == 3
    elsewhere = folder.config("new", "New", "2", str(folder.path / "out-2"))
    (folder.path / "new.toml").write_text(elsewhere)
    assert "out-2 has no files" in folder.check().stderr
    taken = folder.check("--table", str(folder.table), "--json")
    assert taken.exit_code == 0 and said(taken)["column_changes"] == ["half is gone", "third (float) is new"]


def test_nothing_to_compare(folder: Folder) -> None:
    folder.tailed(4)
    golden = folder.path / "golden.jsonl"
    golden.write_text(golden.read_text().splitlines()[-1] + "\n")
    nothing = folder.check()
    assert nothing.exit_code == 4 and "no row of these records" in nothing.stderr


def test_dead_letters_of_both_models_are_no_comparison(folder: Folder) -> None:
    (folder.path / "golden.jsonl").write_text("[1]\n[2]\n")
    result = folder.against_old("--json")
    assert result.exit_code == 4, result.output
    assert said(result)["passed"] is False and "nothing was compared" in result.stderr
    assert "same answers" not in folder.against_old().stdout


def test_a_short_measurement_is_not_judged(folder: Folder) -> None:
    result = folder.against_old()
    assert result.exit_code == 0 and "The throughput is not judged: --measure is less than 1s." in result.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--golden", "nowhere.jsonl"], "penstock tail --stream events"),
        ([], "these records have no positions"),
        (["--tolerance", "half=much"], "'much' is not a number"),
        (["--tolerance", "-1"], "is not a number, 0 or greater"),
        (["--old", "a", "--table", "b"], "exclude each other"),
    ],
)
def test_mistakes_are_one_line_with_the_fix(folder: Folder, words: list[str], told: str) -> None:
    result = folder.check(*words)
    assert result.exit_code == 2 and told in result.stderr, result.output


def test_lines_of_both_kinds_are_a_mistake(folder: Folder) -> None:
    folder.tailed(3)
    with (folder.path / "golden.jsonl").open("a") as file:
        file.write('{"n": 1}\n')
    result = folder.check()
    assert result.exit_code == 2 and "line 4 is not a record as `penstock tail` prints it" in result.stderr
