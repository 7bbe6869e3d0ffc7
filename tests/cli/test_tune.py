"""``penstock tune`` with real replicas of small models, a file of records, and a second of measurement."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from consumer.cli import main
from consumer.config.load import load
from consumer.config.profile import counts, find
from consumer.local.process import LocalAWS
from consumer.tuning.measure import Hosts, Running
from consumer.tuning.search import Combo
from pipeline.machine import cores

CONFIG = """
[stream]
name = "reviews"
application = "penstock-hello"
[model]
factory = "{factory}"
version = "words-1"
[batch]
max_records = 4
[[sink]]
type = "parquet"
url = "out"
[dead_letter]
url = "dead"
"""
FAILING = """
import pyarrow as pa
class Failing:
    output_schema = pa.schema([("n", pa.int64())])
    def predict(self, items):
        raise ValueError("no luck today")
"""
PNG = b"\x89PNG\r\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "hello.toml"
    path.write_text(CONFIG.format(factory="examples.hello:Sentiment"))
    return path


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps({"text": f"thanks, good {n}"}) + "\n" for n in range(40)))
    return path


def tuned(config: Path, *words: object, seconds: float = 0.5, env: dict[str, str] | None = None) -> Result:
    given = ["tune", "--config", config, "--seconds", seconds, *words]
    return CliRunner().invoke(main, list(map(str, given)), env=env)


def fix_counts(config: Path, replicas: int = 1, threads: int = 1) -> None:
    """One combination: a replica takes a third of a second to start."""
    config.write_text(config.read_text().replace("[batch]", f"replicas = {replicas}\nthreads = {threads}\n[batch]"))


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_best_choice_is_shown_and_written_and_run_uses_it(
    config: Path, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "available", lambda: 2)
    result = tuned(config, "--records", records)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert result.stdout.splitlines()[0].split() == [
        *("replicas", "threads", "batch", "records/s", "spread", "call", "ms", "runs")
    ]
    profile = find(load(config)).profile
    assert profile is not None
    assert counts(load(config)) == (profile.replicas, profile.threads)
    assert f"best: replicas = {profile.replicas}, threads = {profile.threads}" in result.stdout
    assert (config.parent / "hello.profile.png").read_bytes().startswith(PNG)


def test_as_json_stdout_is_one_object_and_the_best_is_the_quickest(config: Path, records: Path, tmp_path: Path) -> None:
    fix_counts(config)
    out, plot = tmp_path / "made" / "here", tmp_path / "curve.png"
    result = tuned(config, "--records", records, "--output", out, "--plot", plot, "--json", seconds=0.2)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["profile"] == str(out / "hello.profile.json") and said["plot"] == str(plot)
    quickest = max(said["measured"], key=lambda row: row["records_per_s"])
    assert {name: quickest[name] for name in said["best"]} == said["best"]
    assert {row["records"] for row in said["measured"]} <= {1, 2, 4}
    assert files(out) == {"hello.profile.json"} and plot.read_bytes().startswith(PNG)
    assert find(load(config)).profile is None


def test_configured_values_are_not_varied(config: Path, records: Path) -> None:
    fix_counts(config, 1, 3)
    result = tuned(config, "--records", records, "--json", seconds=0.2)
    assert result.exit_code == 0, result.output
    assert {(row["replicas"], row["threads"]) for row in json.loads(result.stdout)["measured"]} == {(1, 3)}


def test_where_memory_is_short_one_combination_is_loaded_at_a_time(
    config: Path, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "available", lambda: 2)
    monkeypatch.setattr("consumer.tuning.measure.task_mib", lambda: 1)
    loaded: set[Combo] = set()
    start, drop = Running.start, Hosts.drop

    async def started(running: Running) -> None:
        loaded.add(running.combo)
        assert len(loaded) == 1
        await start(running)

    async def dropped(hosts: Hosts, combo: Combo) -> None:
        await drop(hosts, combo)
        loaded.discard(combo)

    monkeypatch.setattr(Running, "start", started)
    monkeypatch.setattr(Hosts, "drop", dropped)
    result = tuned(config, "--records", records, "--json", seconds=1)
    assert result.exit_code == 0, result.output
    assert len({(row["replicas"], row["threads"]) for row in json.loads(result.stdout)["measured"]}) > 1
    assert not loaded


# -- mistakes that users can fix


def expect_one_line(result: Result, says: str, config: Path) -> None:
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("penstock: ") and result.stderr.count("\n") == 1
    assert says in result.stderr
    assert not config.with_name("hello.profile.json").exists()


def test_a_file_that_is_not_there_is_one_line(config: Path, tmp_path: Path) -> None:
    expect_one_line(tuned(config, "--records", tmp_path / "none.jsonl"), "none.jsonl: cannot be read", config)


def test_a_file_without_records_is_one_line(config: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n \n")
    expect_one_line(tuned(config, "--records", tmp_path / "empty"), "has no records", config)


def test_records_that_the_model_refuses_are_one_line_without_a_word_of_them(config: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").write_text('{"text": "good", canary}\n' * 2)
    result = tuned(config, "--records", tmp_path / "raw")
    expect_one_line(result, "accepts none of 2 records", config)
    assert "canary" not in result.output


def test_a_model_that_always_fails_is_one_line_and_leaves_no_profile(config: Path, records: Path) -> None:
    config.with_name("failing.py").write_text(FAILING)
    config.write_text(CONFIG.format(factory="failing:Failing"))
    result = tuned(config, "--records", records, "--count", 2)
    expect_one_line(result, "accepts none of 2 records (exception)", config)


def test_a_model_that_does_not_load_is_one_line(config: Path, records: Path) -> None:
    config.write_text(CONFIG.format(factory="examples.hello:Nothing"))
    expect_one_line(tuned(config, "--records", records), "examples.hello", config)


def test_a_place_that_cannot_be_written_to_is_one_line(config: Path, records: Path) -> None:
    fix_counts(config)
    result = tuned(config, "--records", records, "--output", records / "here", seconds=0.1)
    expect_one_line(result, "Choose another path with --output", config)


# -- the stream


def test_the_stream_is_read_without_a_trace_and_an_empty_one_is_one_line(config: Path) -> None:
    fix_counts(config)
    with LocalAWS(limits=False) as aws:
        kinesis = aws.client("kinesis")
        env = aws.env
        expect_one_line(tuned(config, env=env), "it does not exist", config)
        kinesis.create_stream(StreamName="reviews", ShardCount=2)
        kinesis.get_waiter("stream_exists").wait(StreamName="reviews", WaiterConfig={"Delay": 1})
        expect_one_line(tuned(config, env=env), "has no records to tune with", config)
        for number in range(8):
            kinesis.put_record(StreamName="reviews", PartitionKey=f"{number}", Data=b'{"text": "good"}')
        result = tuned(config, "--json", "--count", 6, env=env, seconds=0.2)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["best"]["records_per_s"] > 0
        assert aws.client("dynamodb").list_tables()["TableNames"] == []
