"""``penstock replay --from --to``: plans, refusals, and what an interrupted slice says."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.replay.world import APP, CONFIG, STREAM, World, config, replay


def slice_options(world: World, tmp_path: Path, **changes: str) -> list[str]:
    given = {
        "--config": config(tmp_path),
        "--from": world.moment.isoformat(),
        "--to": datetime.now(UTC).isoformat(),
        "--url": f"{tmp_path}/new",
    } | changes
    return [word for pair in given.items() for word in pair if pair[1]]


def test_a_slice_is_planned_as_a_separate_application(world: World, tmp_path: Path) -> None:
    found = replay(*slice_options(world, tmp_path), "--json")
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    assert said["schema"] == "penstock.replay.slice/1"
    assert said["application"].startswith("app-replay-")
    assert said["begins_with"] == ["shardId-000000000000"]
    assert said["dead_letter"] == f"{tmp_path}/new.dead-letters"
    assert said["records_about"] is None or said["records_about"] >= 9
    assert said["application"] not in world.dynamodb.list_tables()["TableNames"]


def test_the_plan_of_a_slice_as_people_read_it(world: World, tmp_path: Path) -> None:
    options = slice_options(world, tmp_path, **{"--to": "2030-01-01T00:00:00Z", "--rate": "50"})
    found = replay(*options, "--shards", "shardId-000000000001")
    name = json.loads(replay(*options, "--shards", "shardId-000000000001", "--json").stdout)["application"]
    begin = world.moment.isoformat(timespec="milliseconds")
    assert found.stdout.replace(str(tmp_path), "") == (
        f"slice of stream events: records that arrived at {begin} or later and before 2030-01-01T00:00:00.000+00:00\n"
        "shards: shardId-000000000001\n"
        "model: 1, at most 50 records/s a task\n"
        "rows to: /new; dead letters to: /new.dead-letters\n"
        "records: unknown\n"
        "time: unknown (the number of records is unknown)\n"
        "a day: unchanged; in provisioned mode, Kinesis does not charge for reading\n"
        f"application of its own: {name}; creates three DynamoDB tables, and deletes them at the end\n"
        f"nothing changed; to read the slice: penstock replay --config /penstock.toml --from {begin} "
        "--to 2030-01-01T00:00:00.000+00:00 --url /new --shards shardId-000000000001 --rate 50 --execute\n"
    )


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"--url": ""}, 2, "--url URL"),
        ({"--url": "{folder}/dead/x"}, 3, "name a new one with --url"),
        ({"--url": "{folder}/used"}, 3, "already has files"),
        ({"--sink": "kinesis:events"}, 3, "stream events is the source"),
        ({"--sink": "kinesis:nope"}, 2, "--sink kinesis:nope: it does not exist"),
        ({"--sink": "parquet:x"}, 2, "--sink kinesis:NAME"),
        ({"--sink": "kinesis:not a name"}, 2, '--sink: "not a name" is not a valid stream name'),
        ({"--shards": "shardId-000000000009"}, 2, "no shard shardId-000000000009"),
        ({"--to": "2020-01-01T00:00:00Z"}, 2, "--from is not before --to"),
        ({"--to": ""}, 2, "both --from TIME and --to TIME"),
        ({"--by": "2h"}, 2, "do not go together"),
    ],
)
def test_a_slice_that_cannot_be_or_would_harm_is_refused(
    world: World, tmp_path: Path, changes: dict[str, str], code: int, says: str
) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "x.parquet").write_bytes(b"x")
    changes = {name: value.format(folder=tmp_path) for name, value in changes.items()}
    found = replay(*slice_options(world, tmp_path, **changes))
    assert (found.exit_code, says in found.stderr) == (code, True), found.output


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"--url": "table"}, "which the application writes to"),
        ({"--url": "table/sub"}, "which the application writes to"),
        ({"--url": "./table/sub"}, "which the application writes to"),
        ({"--url": "dead/../table/sub"}, "which the application writes to"),
        ({"--url": "{folder}/table/sub"}, "which the application writes to"),
        ({"--url": "{folder}"}, "which the application writes to"),
        ({"--url": "link/sub"}, "which the application writes to"),
        ({"--url": "table.penstock"}, "which the application writes to"),
        ({"--url": "dead.staged"}, "which the application writes to"),
        ({"--dead-letter": "table"}, "name a new one with --dead-letter"),
        ({"--dead-letter": "{folder}/table/x"}, "name a new one with --dead-letter"),
        ({"--dead-letter": "dead"}, "name a new one with --dead-letter"),
        ({"--dead-letter": "dead.suspects"}, "name a new one with --dead-letter"),
        ({"--dead-letter": "new"}, "Name another with --dead-letter"),
        ({"--dead-letter": "{folder}/new/letters"}, "Name another with --dead-letter"),
        ({"--url": "new.staged", "--dead-letter": "new"}, "Name another with --dead-letter"),
    ],
)
def test_a_slice_never_writes_where_the_application_or_itself_writes(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "table")
    options = slice_options(world, tmp_path, **{name: value.format(folder=tmp_path) for name, value in changes.items()})
    (tmp_path / "penstock.toml").write_text(
        CONFIG.format(stream=STREAM, application=APP, sink='type = "parquet"\nurl = "table"', folder=".")
    )
    found = replay(*options)
    assert (found.exit_code, says in found.stderr) == (3, True), found.output


@pytest.mark.parametrize("url", ["s3://b/live", "s3://b//live/", "s3://b/live/sub", "s3://b"])
def test_urls_of_s3_are_compared_as_the_store_takes_them(url: str) -> None:
    from consumer.config.checks import clash

    assert clash(url, "s3://b/live") and clash("s3://b/live/", url)
    assert not clash(url.replace("s3://b", "s3://other"), "s3://b/live") and not clash("s3://b/live2", "s3://b/live")


def test_a_slice_before_the_retention_says_what_is_gone(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from consumer.aws import shards

    summary = shards.summary
    monkeypatch.setattr(shards, "summary", lambda *given: replace(summary(*given), created_s=0.0))
    options = slice_options(world, tmp_path, **{"--from": "30h ago"})
    assert "are gone: the stream keeps none that are older" in replay(*options).stdout
    assert json.loads(replay(*options, "--json").stdout)["gone_before"] is not None
    assert json.loads(replay(*slice_options(world, tmp_path), "--json").stdout)["gone_before"] is None


def test_a_slice_has_a_name_that_only_its_identity_changes(world: World, tmp_path: Path) -> None:
    end = (datetime.now(UTC) + timedelta(hours=1)).isoformat()

    def name(**changes: str) -> str:
        found = replay(*slice_options(world, tmp_path, **{"--to": end} | changes), "--json")
        return str(json.loads(found.stdout)["application"])

    assert name() == name(**{"--rate": "5"}) == name(**{"--url": f"{tmp_path}/new/"})
    others = {name(), name(**{"--url": f"{tmp_path}/other"}), name(**{"--shards": "shardId-000000000001"})}
    assert len(others | {name(**{"--from": "1h ago"})}) == 4


def test_the_printed_command_continues_the_same_slice_at_any_time(world: World, untouched: str, tmp_path: Path) -> None:
    options = slice_options(
        world,
        tmp_path,
        **{"--url": f"{tmp_path}/it's new", "--from": "1h ago", "--to": "0.001s ago", "--sink": f"kinesis:{untouched}"},
    )
    first = json.loads(replay(*options, "--rate", "7", "--json").stdout)
    words = shlex.split(first["command"])
    assert words[:2] == ["penstock", "replay"] and words[-1] == "--execute"
    second = json.loads(replay(*words[2:-1], "--json").stdout)
    assert (second["application"], second["command"]) == (first["application"], first["command"])
    assert second["sinks"] == [f"{tmp_path}/it's new", f"kinesis:{untouched}"]


def test_an_interrupted_slice_says_what_continues_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from consumer import slice_task

    ended = slice_task.SliceOutcome(finished=False, rows=0, dead_letters=0)
    monkeypatch.setattr(slice_task, "run", lambda *given: ended)
    monkeypatch.setattr("consumer.logs.configure", lambda *given: None)
    found = replay(*slice_options(world, tmp_path, **{"--to": "0s ago"}), "--execute")
    assert found.exit_code == 130, found.output
    last, before = found.stdout.splitlines()[-1], found.stdout.splitlines()[-2]
    assert last == before.replace("after an interruption, or to share the work:", "interrupted; to continue:")


def test_an_interrupted_slice_continues_with_the_same_model_only_and_can_be_given_up(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from consumer import slice_task

    ended = slice_task.SliceOutcome(finished=False, rows=0, dead_letters=0)
    monkeypatch.setattr(slice_task, "run", lambda *given: ended)
    monkeypatch.setattr("consumer.logs.configure", lambda *given: None)
    options = slice_options(world, tmp_path, **{"--to": "2030-01-01T00:00:00Z", "--url": f"{tmp_path}/mixed"})
    said = json.loads(replay(*options, "--execute", "--json").stdout)
    assert said["application"] in world.dynamodb.list_tables()["TableNames"]
    assert replay(*options, "--rate", "7").exit_code == 0
    letters = replay(*options, "--dead-letter", f"{tmp_path}/other")
    assert letters.exit_code == 3 and "started with dead_letter.url" in letters.stderr, letters.output
    path = tmp_path / "penstock.toml"
    whole = path.read_text()
    path.write_text(whole.replace('version = "1"', 'version = "2"'))
    for more in ((), ("--execute",)):
        changed = replay(*options, *more)
        assert (
            changed.exit_code == 3 and "started with model.version = 1; the configuration now has 2" in changed.stderr
        )
    path.write_text(whole)

    discard = shlex.split(said["discard"])[2:]
    assert replay(*discard[:-1]).stdout.endswith("nothing changed; run again with --execute to delete them\n")
    assert replay(*discard).exit_code == 0
    assert not [name for name in world.dynamodb.list_tables()["TableNames"] if name.startswith(said["application"])]
    assert replay(*discard).exit_code == 4


def test_a_slice_that_fails_at_its_start_leaves_no_tables(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from consumer import slice_task
    from pipeline.errors import Fatal

    def run(*given: object) -> None:
        raise Fatal("the model does not load")

    monkeypatch.setattr(slice_task, "run", run)
    monkeypatch.setattr("consumer.logs.configure", lambda *given: None)
    found = replay(*slice_options(world, tmp_path, **{"--url": f"{tmp_path}/failed"}), "--execute")
    assert found.exit_code == 1 and "the tables of the replay are deleted" in found.stderr, found.output
    name = found.stdout.split("application of its own: ")[1].split(";")[0]
    assert not [each for each in world.dynamodb.list_tables()["TableNames"] if each.startswith(name)]
