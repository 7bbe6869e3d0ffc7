"""``penstock audit`` on a folder: its report and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from consumer.cli import main
from consumer.config.sink_settings import ParquetSettings
from pipeline.sinks.chain import Chain
from pipeline.sinks.parquet import Files
from pipeline.stores.folder import FolderStore
from pipeline.table.names import Names
from pipeline.table.staged_letters import Ledger
from tests.support.settled_records import SCHEMA, SHARD, runs


@pytest.fixture
def table(tmp_path: Path) -> Path:
    root = tmp_path / "table"
    chain = Chain(Names(SHARD), flush_interval_s=0, flush_bytes=10**6)
    committer = Files(
        FolderStore(root),
        Names(SHARD),
        SCHEMA,
        Ledger(FolderStore(tmp_path / "dead"), FolderStore(tmp_path / "dead.staged")),
    )
    for part in (runs(1, 4), runs(4, 6, dead=True), runs(6, 9)):
        chain.add(part.records, 0.0)
        chain.seal()
        while file := chain.next(0.0):
            chain.written(committer.prepare(file, "writer")())
    return root


def audited(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["audit", *map(str, arguments)])


def test_a_good_table_exits_with_0(table: Path) -> None:
    result = audited(table, "--dead-letter", table.parent / "dead")
    assert result.exit_code == 0
    assert result.stdout == "3 files of 1 shard, 6 rows, 2 dead letters: no problems\n"


def test_a_missing_file_is_reported_and_exits_with_1(table: Path) -> None:
    sorted(table.rglob("*.parquet"))[1].unlink()
    result = audited(table, "--json")
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert [problem["kind"] for problem in said["problems"]] == ["gap"]
    assert said["rows"] == 6 and said["files"] == 2


def test_a_table_that_is_not_there_exits_with_2_and_the_fix(tmp_path: Path) -> None:
    result = audited(tmp_path / "nowhere")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1 and "there is no such folder yet. A worker writes" in result.stderr


def test_a_correct_url_without_files_is_reported(tmp_path: Path) -> None:
    result = audited(tmp_path)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1 and "no files yet. A worker writes the first file once" in result.stderr
    assert "flush_interval_s old (300 by default)" in result.stderr and "generation" not in result.stderr


def test_the_default_that_the_message_names_is_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ParquetSettings.model_fields["flush_interval_s"], "default", 77)
    assert "(77 by default)" in audited(tmp_path).stderr


def test_complete_without_a_stream_exits_with_2_and_the_fix(table: Path) -> None:
    result = audited(table, "--complete")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1 and "--stream" in result.stderr


def test_a_stream_that_cannot_be_asked_exits_with_2_and_one_line(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    result = audited(table, "--stream", "events")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1 and "AWS_ENDPOINT_URL" in result.stderr


def test_a_key_cannot_write_to_the_terminal(table: Path) -> None:
    (table / "a\x1b[2J\nno problems.parquet").write_bytes(b"x")
    result = audited(table)
    assert result.exit_code == 1 and "\x1b" not in result.stdout
    assert result.stdout.splitlines()[0].startswith("stray: a\\x1b[2J\\nno problems.parquet: ")
    assert len(result.stdout.splitlines()) == 2


def test_letters_that_a_crash_left_unwritten_are_repaired(table: Path) -> None:
    [letters] = (table.parent / "dead").rglob("*.jsonl")
    body = letters.read_bytes()
    letters.unlink()
    assert audited(table, "--dead-letter", table.parent / "dead").exit_code == 1
    result = audited(table, "--dead-letter", table.parent / "dead", "--repair")
    assert result.exit_code == 0 and letters.read_bytes() == body
    refused = audited(table, "--repair")
    assert refused.exit_code == 2 and "--dead-letter" in refused.stderr
