"""``penstock dead-letters``: on a table in a folder, with the model in a real process."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from consumer.cli import main
from pipeline.record import Shard
from pipeline.stores import open_store
from pipeline.stores.folder import FolderStore
from pipeline.table.names import STAGED
from tests.contract.sinks.test_store import bucket
from tests.support.dead_table import DeadTable, Fate, dead

__all__ = ["bucket"]

CONFIG = """
[stream]
name = "events"
application = "app"
[model]
factory = "small:Small"
version = "{version}"
[[sink]]
type = "parquet"
url = "{folder}/table"
[[sink]]
type = "kinesis"
stream = "enriched"
[dead_letter]
url = "{folder}/dead"
"""
MODEL = """
import pyarrow as pa
class Small:
    output_schema = pa.schema([("n", pa.int64())])
    def predict(self, items):
        if any(item["n"] in {bad} for item in items):
            raise ValueError("not this one")
        return [{{"n": item["n"]}} for item in items]
"""
SHARD = Shard("events", 1, "shardId-000000000000")
ID = "events/shardId-000000000000/3/0"


class Application:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.table = DeadTable(
            FolderStore(folder / "table"),
            FolderStore(folder / "dead"),
            FolderStore(folder / f"dead{STAGED}"),
        )
        self.table.write(
            [
                Fate(1),
                dead(2, "timeout", "timed out after 3 s"),
                dead(3, "exception", "ValueError: 'u1' is bad"),
                dead(4, "exception", "ValueError: 'u2' is bad"),
                dead(5, "aggregate", "no aggregate", b"\xf3\x89\x9a\xc2"),
                Fate(6),
            ]
        )
        self.model(bad=[])

    def model(self, bad: list[int], version: str = "m2") -> None:
        (self.folder / "small.py").write_text(MODEL.format(bad=bad or "()"))
        (self.folder / "penstock.toml").write_text(CONFIG.format(version=version, folder=self.folder))

    def __call__(self, *words: str) -> Result:
        config = ["--config", str(self.folder / "penstock.toml")]
        return CliRunner().invoke(main, ["dead-letters", *words, *config], prog_name="penstock")


@pytest.fixture
def application(tmp_path: Path) -> Application:
    return Application(tmp_path)


def test_list_counts_first_and_then_lists(application: Application) -> None:
    result = application("list")
    assert result.exit_code == 0, result.output
    assert [line.split("\t") for line in result.stdout.splitlines()] == [
        ["kind", "letters", "redriven", "failed again", "cannot be redriven", "reason"],
        ["exception", "2", "0", "0", "0", "ValueError: … is bad"],
        ["timeout", "1", "0", "0", "0", "timed out after … s"],
        ["aggregate", "1", "0", "0", "1", "no aggregate"],
        ["record", "kind", "arrived", "model", "attempts", "state", "reason"],
        [ID.replace("/3/", "/2/"), "timeout", ARRIVED, "m1", "2", "waits", "timed out after 3 s"],
        [ID, "exception", ARRIVED, "m1", "2", "waits", "ValueError: 'u1' is bad"],
        [ID.replace("/3/", "/4/"), "exception", ARRIVED, "m1", "2", "waits", "ValueError: 'u2' is bad"],
        [ID.replace("/3/", "/5/"), "aggregate", ARRIVED, "m1", "2", "cannot be redriven", "no aggregate"],
    ]


ARRIVED = "2026-11-18T00:00:00.000+00:00"


def test_list_filters_and_has_a_short_name(application: Application) -> None:
    url = str(application.folder / "dead")
    words = ["dlq", "list", "--url", url, "--where", "data.n > `3`", "--kind", "exception", "--json"]
    said = json.loads(CliRunner().invoke(main, words, prog_name="penstock").stdout)
    assert said["schema"] == "penstock.dead-letters.list/1"
    assert said["total"] == 1 and said["letters"][0]["record_id"].endswith("/4/0")
    assert said["letters"][0]["state"] is None and said["counts"][0]["redriven"] is None
    assert "payload_base64" not in said["letters"][0] and said["letters"][0]["payload_bytes"] == 7
    assert application("list", "--kind", "rejected").stdout == "no dead letters\n"
    counts = application("list", "--limit", "0").stdout.splitlines()
    assert counts[-1] == "4 dead letters; the first 0 are listed (--limit)"
    assert not [line for line in counts if line.startswith("record\t")], "a table without rows has no head"
    both = application("list", "--table", "elsewhere")
    assert both.exit_code == 2 and "--config names the table already" in both.stderr
    assert application("list", "--limit", "1").stdout.splitlines()[-1].startswith("4 dead letters; the first 1")


def test_times_in_the_wrong_order_are_a_mistake(application: Application) -> None:
    found = application("list", "--from", "1h ago", "--to", "2h ago")
    assert (found.exit_code, "--from is not before --to" in found.stderr) == (2, True), found.output


def test_show_takes_the_payload_apart(tmp_path: Path) -> None:
    application = Application(tmp_path)
    zipped = gzip.compress(b'{"n": 7}')
    application.table.write([dead(7, "decode", "no\x1b[2J JSON", zipped)], Shard("events", 1, "shardId-000000000001"))
    name = "events/shardId-000000000001/7/0"
    lines = application("show", name).stdout.splitlines()
    assert f"record_id: {name}" in lines and "state: waits" in lines and r"reason: no\x1b[2J JSON" in lines
    assert lines[-4:] == ["payload (gzip, 8 bytes uncompressed; JSON):", "  {", '    "n": 7', "  }"]
    said = json.loads(application("show", name, "--json").stdout)
    assert said["letters"][0]["decoded"]["steps"] == ["gzip, 8 bytes uncompressed", "JSON"]
    config = ["--config", str(application.folder / "penstock.toml")]
    raw = CliRunner().invoke(main, ["dlq", "show", name, "--payload", *config], prog_name="penstock")
    assert raw.stdout_bytes == zipped
    missing = application("show", "events/shardId-000000000001/8/0")
    assert missing.exit_code == 2 and "has no dead letter here" in missing.stderr


def test_redrive_prints_its_plan_and_does_nothing(application: Application) -> None:
    result = application("redrive", "--rate", "0.1")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "kind\twaits\tfailed again\tredriven\tcannot be redriven",
        "timeout\t1\t0\t0\t0",
        "exception\t2\t0\t0\t0",
        "aggregate\t0\t0\t0\t1",
        "1 cannot be redriven: its payload is an aggregate of the KPL that cannot be read, and no record",
        (
            "plan: run 3 records (0.0 MiB) through model version m2, and write the rows of those that pass to "
            f"{application.folder}/table, in files of their own for 1 shard-day"
        ),
        "time: about 30 s (at this --rate, 0.1 records/s)",
        "a day: unchanged",
        "a redrive cannot be undone: its rows stay in the table",
        f"only {application.folder}/table gets these rows; not kinesis:enriched",
        "nothing was done. Give --execute to redrive them",
    ]
    assert application.table.audit().redriven == 0
    assert not (application.folder / "dead.redrives").exists()


def test_a_canary_that_fails_stops_the_others(application: Application) -> None:
    application.model(bad=[3])
    result = application("redrive", "--canary", "2", "--execute")
    assert result.exit_code == 1, result.output
    assert result.stdout.splitlines()[-2:] == [
        "1 redriven, 1 failed again, 1 not tried",
        "the canary failed, so nothing more was tried. `penstock dead-letters show` says why",
    ]
    assert application.table.audit().redriven == 1


def test_redrive_again_and_again(application: Application) -> None:
    application.model(bad=[3])
    first = application("redrive", "--execute")
    assert first.exit_code == 1, first.output
    assert first.stdout.splitlines()[-2:] == [
        f"failed again: {ID}: exception: ValueError: not this one",
        "2 redriven, 1 failed again, 0 not tried",
    ]
    report = application.table.audit()
    assert report.problems == [] and (report.rows, report.dead_letters, report.redriven) == (4, 4, 2)
    second = application("redrive", "--execute")
    assert second.exit_code == 4
    assert "1 failed again with model version m2: --again tries them once more" in second.stdout
    application.model(bad=[], version="m3")
    third = application("redrive", "--execute", "--json")
    assert third.exit_code == 0, third.output
    said = json.loads(third.stdout)
    assert said["schema"] == "penstock.dead-letters.redrive/1"
    assert (said["executed"], said["redriven"], said["failed"], said["not_tried"]) == (True, 1, 0, 0)
    assert application.table.audit().problems == [] and application.table.audit().redriven == 3
    shown = application("show", ID).stdout.splitlines()
    assert "state: redriven" in shown and "redrives_failed: 1" in shown
    assert any(line.endswith("model m2: exception: ValueError: not this one") for line in shown)


def test_a_table_with_other_columns_is_refused_before_anything_is_tried(application: Application) -> None:
    (application.folder / "small.py").write_text(MODEL.format(bad="()").replace("pa.int64()", "pa.string()"))
    result = application("redrive", "--execute")
    assert result.exit_code == 2
    assert "the table has files with other columns" in result.stderr
    assert application.table.audit().redriven == 0


def test_without_a_table_there_is_no_redrive(application: Application) -> None:
    path = application.folder / "penstock.toml"
    parquet = f'[[sink]]\ntype = "parquet"\nurl = "{application.folder}/table"\n'
    path.write_text(path.read_text().replace(parquet, ""))
    result = application("redrive")
    assert result.exit_code == 2 and "has no Parquet sink" in result.stderr


def test_redrive_on_s3(tmp_path: Path, bucket: Any) -> None:
    lake, letters, staged = (
        open_store(f"s3://lake/{each}", lambda: bucket) for each in ("table", "dead", "dead.staged")
    )
    table = DeadTable(lake, letters, staged)
    table.write([Fate(1), dead(2), dead(3)])
    (tmp_path / "small.py").write_text(MODEL.format(bad=[3]))
    (tmp_path / "penstock.toml").write_text(CONFIG.format(version="m2", folder="s3://lake"))
    words = ["dlq", "redrive", "--config", str(tmp_path / "penstock.toml"), "--execute"]
    result = CliRunner().invoke(main, words, prog_name="penstock")
    assert result.exit_code == 1, result.output
    assert result.stdout.splitlines()[-1] == "1 redriven, 1 failed again, 0 not tried"
    assert table.audit().problems == [] and table.audit().redriven == 1
    assert CliRunner().invoke(main, words, prog_name="penstock").exit_code == 4


@pytest.mark.parametrize("words", [["--url", "nowhere"], ["--url", "/tmp", "--table", "nowhere"]])
def test_a_missing_folder_is_not_an_empty_answer(words: list[str]) -> None:
    result = CliRunner().invoke(main, ["dlq", "list", *words])
    assert result.exit_code == 2
    assert result.stderr.startswith("penstock: nowhere: there is no such folder.")
