"""``penstock replay --from-jsonl`` and ``--from-parquet``: an archive is put on a stream."""

from __future__ import annotations

import base64
import json
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from consumer.aws import put as put_module
from tests.cli.replay.world import World, replay
from tests.support.streams import active


@pytest.fixture
def target(world: World) -> Iterator[str]:
    """A stream of the test's own."""
    name = f"target-{time.monotonic_ns()}"
    world.kinesis.create_stream(StreamName=name, ShardCount=1)
    active(world.kinesis, name)
    yield name
    world.kinesis.delete_stream(StreamName=name)


def on(world: World, stream: str) -> list[tuple[str, bytes]]:
    shard = world.kinesis.list_shards(StreamName=stream)["Shards"][0]["ShardId"]
    at = world.kinesis.get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    records = world.kinesis.get_records(ShardIterator=at["ShardIterator"])["Records"]
    return [(record["PartitionKey"], record["Data"]) for record in records]


def test_lines_are_put_with_their_keys_in_order(
    world: World, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    letter = {"partition_key": "b", "payload_base64": base64.b64encode(b"\xff\x00").decode(), "kind": "decode"}
    lines = [json.dumps({"partition_key": "a", "data": {"number": number}}) for number in range(4)]
    file = tmp_path / "records.jsonl"
    file.write_text("\n".join([*lines, json.dumps(letter)]) + "\n")
    words = ("--stream", target, "--from-jsonl", str(file))
    assert "5 records of" in replay(*words).stdout
    assert on(world, target) == []
    done = replay(*words, "--execute", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["put"] == 5
    found = on(world, target)
    assert [json.loads(data)["number"] for key, data in found if key == "a"] == [0, 1, 2, 3]
    assert ("b", b"\xff\x00") in found
    again = replay(*words, "--execute")
    assert (again.exit_code, len(on(world, target))) == (4, 5)
    assert "done already at 20" in again.stderr and "--again repeats it" in again.stderr
    assert replay(*words).exit_code == 4
    file.write_text("\n".join([*lines, lines[0]]) + "\n")
    assert (replay(*words, "--execute").exit_code, len(on(world, target))) == (3, 5), "it is another archive"
    assert replay(*words, "--execute", "--again").exit_code == 0
    assert len(on(world, target)) == 10


def test_an_empty_archive_is_nothing_to_do(untouched: str, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    assert replay("--stream", untouched, "--from-jsonl", str(tmp_path / "empty.jsonl"), "--execute").exit_code == 4


def test_an_archive_is_put_by_one_run_at_a_time(
    world: World, untouched: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from consumer.admin.replay.archive_note import ArchiveNote

    monkeypatch.chdir(tmp_path)
    file = tmp_path / "records.jsonl"
    file.write_text('{"data": 1}\n')
    with ArchiveNote(Path(), str(file), untouched, ["None", "None", "partition_key"]).locked():
        found = replay("--stream", untouched, "--from-jsonl", str(file), "--execute")
    assert (found.exit_code, on(world, untouched)) == (3, []), found.output
    assert "another run is already putting this archive" in found.stderr


def test_ctrl_c_stops_after_what_is_on_its_way(
    world: World, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from consumer.admin.replay import archive

    def put_all(*given: Any, **more: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return put_module.put_all(*given, **more)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(archive, "AT_A_TIME", 2)
    monkeypatch.setattr(archive, "put_all", put_all)
    file = tmp_path / "records.jsonl"
    file.write_text("".join(json.dumps({"partition_key": "a", "data": number}) + "\n" for number in range(5)))
    words = ("--stream", target, "--from-jsonl", str(file), "--execute")
    found = replay(*words)
    assert found.exit_code == 130
    assert found.stderr.rstrip().endswith("continues after 2 records"), found.stderr
    assert [replay(*words).exit_code for _ in range(4)] == [130, 130, 0, 4]
    assert [data for _, data in on(world, target)] == [b"0", b"1", b"2", b"3", b"4"]


def test_a_rate_holds_across_notes(world: World, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from consumer.admin.replay.archive_note import StopBetween

    slept: list[float] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(StopBetween.__init__, "__kwdefaults__", {"sleep": slept.append})
    file = tmp_path / "records.jsonl"
    file.write_text('{"data": 1}\n' * 3)
    found = replay("--stream", target, "--from-jsonl", str(file), "--rate", "0.4", "--execute")
    assert found.exit_code == 0, found.output
    assert len(slept) == 2 and all(2 < each <= 2.5 for each in slept), "one record each 2.5 s"


def test_an_interrupted_reading_continues(
    world: World, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from consumer.admin.replay import archive

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(archive, "AT_A_TIME", 2)
    file = tmp_path / "records.jsonl"
    file.write_text(
        "".join(json.dumps({"partition_key": "a", "data": number}) + "\n" for number in range(6)) + "broken"
    )
    words = ("--stream", target, "--from-jsonl", str(file), "--execute")
    assert replay(*words).exit_code == 2
    assert len(on(world, target)) == 6
    assert json.loads(next(tmp_path.glob("*.progress")).read_text())["records"] == 6
    whole = file.read_text().replace("broken", json.dumps({"partition_key": "a", "data": 6}) + "\n")
    file.write_text(whole.replace('"data": 5', '"data": 55'))
    changed = replay(*words)
    assert (changed.exit_code, len(on(world, target))) == (3, 6)
    assert "the archive begins with other records now" in changed.stderr
    file.write_text(whole)  # the line that stopped it is repaired: what is put is the same
    assert replay(*words).exit_code == 0
    assert [data for _, data in on(world, target)] == [b"0", b"1", b"2", b"3", b"4", b"5", b"6"]
    assert replay(*words).exit_code == 4


def test_an_interrupted_archive_says_where_it_continues(
    world: World, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from consumer.admin.replay import archive

    calls = iter((put_module.put_all, None))

    def put_all(*given: Any, **more: Any) -> Any:
        call = next(calls)
        if call is None:
            raise KeyboardInterrupt
        return call(*given, **more)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(archive, "AT_A_TIME", 2)
    monkeypatch.setattr(archive, "put_all", put_all)
    file = tmp_path / "records.jsonl"
    file.write_text("".join(json.dumps({"partition_key": "a", "data": number}) + "\n" for number in range(6)))
    found = replay("--stream", target, "--from-jsonl", str(file), "--execute")
    assert found.exit_code == 130
    assert "interrupted. The same command continues after 2 records; records that were put since" in found.stderr
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert "2 of them were put before" in replay("--stream", target, "--from-jsonl", str(file)).stdout


def test_an_archive_of_something_else_is_refused_with_its_plan(untouched: str, tmp_path: Path) -> None:
    file = tmp_path / "payloads.jsonl"
    file.write_text('{"text": "a payload, not a record"}\n')
    found = replay("--stream", untouched, "--from-jsonl", str(file))
    assert (found.exit_code, found.stdout) == (2, "")
    assert "payloads.jsonl line 1: the line is not a record" in found.stderr


def test_a_note_of_something_else_is_named(
    world: World, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from consumer.admin.replay import archive

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(archive, "AT_A_TIME", 1)
    file = tmp_path / "records.jsonl"
    file.write_text('{"data": 1}\nbroken')
    words = ("--stream", target, "--from-jsonl", str(file), "--execute")
    assert replay(*words).exit_code == 2
    next(tmp_path.glob("*.progress")).write_text("")
    found = replay(*words)
    assert found.exit_code == 2 and "is not a note of a replay. Delete it" in found.stderr, found.output


@pytest.fixture
def table(tmp_path: Path) -> str:
    folder = tmp_path / "table"
    for day, numbers in (("2026-01-02", [2, 3]), ("2026-01-01", [0, 1])):
        (folder / f"dt={day}").mkdir(parents=True)
        rows = {
            "partition_key": ["k", None],
            "raw": [f"payload {number}".encode() for number in numbers],
            "number": numbers,
            "at": [datetime(2026, 1, 1, tzinfo=UTC)] * 2,
            "scores": [[0.5, float("nan")]] * 2,
        }
        pq.write_table(pa.table(rows), folder / f"dt={day}" / "file.parquet")
    return str(folder)


def test_a_column_of_payloads_is_put(world: World, target: str, table: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    done = replay("--stream", target, "--from-parquet", table, "--payload", "raw", "--execute")
    assert done.exit_code == 0, done.output
    found = on(world, target)
    assert sorted(data for _, data in found) == [b"payload 0", b"payload 1", b"payload 2", b"payload 3"]
    assert [data for key, data in found if key == "k"] == [b"payload 0", b"payload 2"]


def test_objects_are_made_of_columns(world: World, target: str, table: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    done = replay("--stream", target, "--from-parquet", table, "--fields", "number,at,raw,scores", "--execute")
    assert done.exit_code == 0, done.output
    assert json.loads(on(world, target)[0][1]) == {
        "number": 0,
        "at": "2026-01-01T00:00:00+00:00",
        "raw": "cGF5bG9hZCAw",
        "scores": [0.5, None],
    }


def test_whole_numbers_are_keys(world: World, target: str, table: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    done = replay("--stream", target, "--from-parquet", table, "--payload", "raw", "--key", "number", "--execute")
    assert done.exit_code == 0, done.output
    assert ("0", b"payload 0") in on(world, target)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "holds rows that a model made, not payloads"),
        (["--payload", "raw", "--fields", "number"], "holds rows that a model made"),
        (["--payload", "body"], "has no column body. Its columns: partition_key, raw, number, at, scores"),
        (["--payload", "raw", "--key", "user"], "has no column user"),
        (["--payload", "number"], "column number is int64, not text or bytes"),
        (["--payload", "scores"], "column scores is list<"),
        (["--payload", "raw", "--key", "raw"], "column raw is binary, not text or a whole number"),
        (["--payload", "raw", "--key", "at"], "column at is timestamp"),
    ],
)
def test_a_table_without_payloads_is_refused(untouched: str, table: str, options: list[str], says: str) -> None:
    found = replay("--stream", untouched, "--from-parquet", table, *options)
    assert (found.exit_code, says in found.stderr) == (2, True), found.output
