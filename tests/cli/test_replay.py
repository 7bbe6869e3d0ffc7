"""``penstock replay`` on the local AWS, without KCL: plans, refusals, moved and restored leases, archives."""

from __future__ import annotations

import base64
import json
import shlex
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from consumer.admin import reset_leases
from consumer.admin.replay import carry_out
from consumer.aws import put as put_module
from consumer.cli import main
from consumer.leases import leases
from consumer.leases.binding import bind
from consumer.leases.seed import seed
from consumer.leases.tables import make_tables
from consumer.local.process import LocalAWS
from pipeline.record import LAST_SUB, Position
from tests.support.streams import active

STREAM, APP = "events", "app"
CONFIG = """
[stream]
name = "{stream}"
application = "{application}"
[model]
factory = "a:B"
version = "1"
[[sink]]
{sink}
[dead_letter]
url = "{folder}/dead"
[kcl]
failover_ms = 1000
"""


class World:
    """A stream with a split, and an application that has read all of it."""

    def __init__(self, aws: LocalAWS) -> None:
        self.kinesis, self.dynamodb = aws.client("kinesis"), aws.client("dynamodb")
        self.kinesis.create_stream(StreamName=STREAM, ShardCount=1)
        active(self.kinesis, STREAM)
        self.before = [self.put(f"before {number}") for number in range(3)]
        self.moment = self.pause()
        self.within = [self.put(f"within {number}") for number in range(3)]
        self.kinesis.update_shard_count(StreamName=STREAM, TargetShardCount=2, ScalingType="UNIFORM_SCALING")
        active(self.kinesis, STREAM)
        self.next_second()
        self.after = [self.put(f"after {number}") for number in range(6)]

    def put(self, text: str) -> tuple[str, int]:
        answer = self.kinesis.put_record(StreamName=STREAM, PartitionKey=text, Data=json.dumps(text).encode())
        return answer["ShardId"], int(answer["SequenceNumber"])

    @staticmethod
    def next_second() -> None:
        """Wait until a whole second has passed since the split, because an application starts at whole seconds."""
        second = int(time.time())
        while int(time.time()) == second:
            time.sleep(0.02)  # the clock is what is waited for

    @staticmethod
    def pause() -> datetime:
        """A time at which no record arrived in the same millisecond."""
        time.sleep(0.02)  # the clock is what is waited for
        now = datetime.now(UTC)
        time.sleep(0.02)  # as above
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def begin(self) -> None:
        """The application's leases at the end of the stream. The parent's lease is deleted, as KCL does it."""
        for name in self.dynamodb.list_tables()["TableNames"]:
            self.dynamodb.delete_table(TableName=name)
        make_tables(self.dynamodb, APP)
        summary = self.kinesis.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]
        created_s = int(summary["StreamCreationTimestamp"].timestamp())
        bind(self.dynamodb, self.kinesis, APP, STREAM, created_s, "TRIM_HORIZON", datetime.now(UTC))
        start = datetime.now(UTC).isoformat()
        seed(self.dynamodb, self.kinesis, APP, STREAM, start)
        for shard_id, sequence in dict(self.after).items():
            self.dynamodb.update_item(
                TableName=APP,
                Key={"leaseKey": {"S": shard_id}},
                UpdateExpression="SET checkpoint = :at",
                ExpressionAttributeValues={":at": {"S": str(sequence)}},
            )

    def leases(self) -> dict[str, Any]:
        found = leases.read(self.dynamodb, APP)
        return {lease.shard_id[-1]: lease.checkpoint or lease.sentinel for lease in found}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with LocalAWS(limits=False) as aws, pytest.MonkeyPatch.context() as environment:
        for name, value in aws.env.items():
            environment.setenv(name, value)
        environment.setattr(carry_out, "MARGIN_S", -1.0)
        environment.setattr(reset_leases, "MARGIN_S", -1.0)
        yield World(aws)


def config(folder: Path, sink: str = 'type = "kinesis"\nstream = "rows"', application: str = APP) -> str:
    path = folder / "penstock.toml"
    path.write_text(CONFIG.format(stream=STREAM, application=application, sink=sink, folder=folder))
    return str(path)


def replay(*words: str) -> Result:
    return CliRunner().invoke(main, ["replay", *words])


# -- the application itself


def test_a_rewind_is_planned_carried_out_and_undone(world: World, tmp_path: Path) -> None:
    world.begin()
    before = world.leases()
    path, undo = config(tmp_path), str(tmp_path / "undo.json")
    rewind = ("--config", path, "--rewind", "--to-time", world.moment.isoformat())

    planned = replay(*rewind)
    assert planned.exit_code == 0, planned.output
    assert world.leases() == before
    last_before = world.before[-1][1]
    lines = planned.stdout.splitlines()
    assert lines[0] == f"application app on stream events, to {world.moment.isoformat(timespec='milliseconds')}"
    assert lines[1] == "shard\tnow\tthen\tfrom the record that arrived"
    assert lines[2].startswith(f"shardId-000000000000\tno lease\tafter {last_before}\t20")
    assert [line.split("\t")[2] for line in lines[3:5]] == ["TRIM_HORIZON", "TRIM_HORIZON"]
    assert lines[-1] == "nothing changed; run again with --execute to move the leases"

    done = replay(*rewind, "--execute", "--undo", undo, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["schema"] == "penstock.replay.rewind/1"
    assert world.leases() == {"0": Position(last_before, LAST_SUB), "1": "TRIM_HORIZON", "2": "TRIM_HORIZON"}
    assert replay(*rewind).exit_code == 4
    assert replay(*rewind, "--execute", "--undo", undo).exit_code == 4

    undone = replay("--config", path, "--rewind", "--from-file", undo, "--execute", "--undo", str(tmp_path / "again"))
    assert undone.exit_code == 0, undone.output
    assert world.leases() == before
    back = f"penstock replay --config {path} --rewind --from-file {tmp_path}/again --execute"
    assert undone.stdout.splitlines()[-1] == f"done; to put the leases back: {back}"


def test_to_the_earliest_and_to_the_latest(world: World, tmp_path: Path) -> None:
    world.begin()
    before, path = world.leases(), config(tmp_path)
    earliest = replay(
        "--config", path, "--rewind", "--to-earliest", "--execute", "--undo", str(tmp_path / "1"), "--json"
    )
    assert earliest.exit_code == 0, earliest.output
    assert set(world.leases().values()) == {"TRIM_HORIZON"}
    latest = replay("--config", path, "--rewind", "--to-latest", "--execute", "--undo", str(tmp_path / "2"), "--json")
    assert latest.exit_code == 0, latest.output
    ends = {shard_id: Position(at.sequence, LAST_SUB) for shard_id, at in before.items()}
    assert world.leases() == {"0": "SHARD_END", **ends}


def put_back(world: World, before: dict[str, Any]) -> None:
    for shard_id, at in before.items():
        sequence = str(at.sequence) if isinstance(at, Position) else at
        key = {"leaseKey": {"S": f"shardId-00000000000{shard_id}"}}
        values = {":at": {"S": sequence}}
        world.dynamodb.update_item(
            TableName=APP, Key=key, UpdateExpression="SET checkpoint = :at", ExpressionAttributeValues=values
        )


def test_a_move_to_the_latest_says_what_it_skips_and_is_undone_for_a_table(world: World, tmp_path: Path) -> None:
    world.begin()
    path, undo = config(tmp_path, f'type = "parquet"\nurl = "{tmp_path}/table"'), str(tmp_path / "undo.json")
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "x.parquet").write_bytes(b"x")
    put_back(world, {"1": "TRIM_HORIZON", "2": "TRIM_HORIZON"})
    before = world.leases()
    latest = ("--config", path, "--rewind", "--to-latest")
    planned = replay(*latest)
    assert "skipped, never read: " in planned.stdout and "to read again" not in planned.stdout, planned.output
    said = json.loads(replay(*latest, "--execute", "--undo", undo, "--json").stdout)
    assert said["skipped_at_most"] is None or said["skipped_at_most"] >= 6
    assert said["skipped_since"] >= world.moment.isoformat()
    at_the_end = world.leases()
    back = ("--config", path, "--rewind", "--from-file", undo, "--execute", "--undo", str(tmp_path / "again"))

    put_back(world, {"1": Position(world.after[-1][1] + 1, 0)})
    refused = replay(*back)
    assert refused.exit_code == 3 and "shardId-000000000001 has been read since the move" in refused.stderr
    put_back(world, at_the_end)
    assert replay(*back, "--online").exit_code == 3
    undone = replay(*back)
    assert undone.exit_code == 0, undone.output
    assert {each: world.leases()[each] for each in before} == before
    again = replay(
        "--config", path, "--rewind", "--from-file", str(tmp_path / "again"), "--execute", "--undo", f"{tmp_path}/3"
    )
    assert again.exit_code == 0, again.output
    assert world.leases() == at_the_end


def test_a_worker_that_renews_its_lease_is_refused(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.begin()
    renew = {"UpdateExpression": "SET leaseOwner = :me ADD leaseCounter :one"}
    values = {":me": {"S": "worker"}, ":one": {"N": "1"}}

    def renewed(*ignored: object) -> None:
        key = {"leaseKey": {"S": "shardId-000000000001"}}
        world.dynamodb.update_item(TableName=APP, Key=key, ExpressionAttributeValues=values, **renew)

    renewed()
    monkeypatch.setattr(carry_out.LeaseTable.__init__, "__kwdefaults__", {"sleep": renewed, "tell": print})
    undo = tmp_path / "undo.json"
    found = replay(
        "--config", config(tmp_path), "--rewind", "--to-earliest", "--execute", "--undo", str(undo), "--json"
    )
    assert found.exit_code == 3
    assert "worker holds the lease of shardId-000000000001" in found.stderr
    assert not undo.exists()


@pytest.mark.parametrize(
    ("urls", "options", "says"),
    [
        ("old", [], "skips them"),
        ("old", ["--url", "{folder}/new"], "Set the sink's url to"),
        ("new", ["--url", "{folder}/new", "--online"], "twice. Stop every worker"),
        ("used", ["--url", "{folder}/used"], "already has files"),
    ],
)
def test_a_table_that_would_pass_over_the_records_or_hold_them_twice_is_refused(
    world: World, tmp_path: Path, urls: str, options: list[str], says: str
) -> None:
    world.begin()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "x.parquet").write_bytes(b"x")
    path = config(tmp_path, f'type = "parquet"\nurl = "{tmp_path}/{urls}"')
    found = replay("--config", path, "--rewind", "--to-earliest", *(each.format(folder=tmp_path) for each in options))
    assert found.exit_code == 3
    assert says in found.stderr


def test_a_new_table_is_taken_when_the_configuration_names_it(world: World, tmp_path: Path) -> None:
    world.begin()
    path = config(tmp_path, f'type = "parquet"\nurl = "{tmp_path}/new"')
    found = replay("--config", path, "--rewind", "--to-earliest", "--url", f"{tmp_path}/new")
    assert found.exit_code == 0, found.output
    assert "gets the rows of all records that are read from then on" in found.stdout


# -- a slice


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

    ended = slice_task.Outcome(finished=False, rows=0, dead_letters=0)
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

    ended = slice_task.Outcome(finished=False, rows=0, dead_letters=0)
    monkeypatch.setattr(slice_task, "run", lambda *given: ended)
    monkeypatch.setattr("consumer.logs.configure", lambda *given: None)
    options = slice_options(world, tmp_path, **{"--to": "2030-01-01T00:00:00Z", "--url": f"{tmp_path}/mixed"})
    said = json.loads(replay(*options, "--execute", "--json").stdout)
    assert said["application"] in world.dynamodb.list_tables()["TableNames"]
    assert replay(*options, "--rate", "7").exit_code == 0
    letters = replay(*options, "--dead-letter", f"{tmp_path}/other")
    assert letters.exit_code == 3 and "began with dead_letter.url" in letters.stderr, letters.output
    path = tmp_path / "penstock.toml"
    whole = path.read_text()
    path.write_text(whole.replace('version = "1"', 'version = "2"'))
    for more in ((), ("--execute",)):
        changed = replay(*options, *more)
        assert changed.exit_code == 3 and "began with model.version = 1, which is now 2" in changed.stderr
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


# -- an archive


@pytest.fixture
def target(world: World) -> Iterator[str]:
    """A stream of the test's own."""
    name = f"target-{time.monotonic_ns()}"
    world.kinesis.create_stream(StreamName=name, ShardCount=1)
    active(world.kinesis, name)
    yield name
    world.kinesis.delete_stream(StreamName=name)


@pytest.fixture(scope="module")
def untouched(world: World) -> str:
    """A stream for tests that put nothing on it."""
    world.kinesis.create_stream(StreamName="untouched", ShardCount=1)
    active(world.kinesis, "untouched")
    return "untouched"


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
    assert "another run puts this archive now" in found.stderr


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


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--from-jsonl", "x", "--url", "out"), "--url has no effect with an archive"),
        (("--from-jsonl", "x", "--key", "user"), "--key has an effect only with --from-parquet"),
        (("--from-jsonl", "x", "--payload", "body"), "--payload has an effect only with --from-parquet"),
        (("--application", "a", "--rewind", "--by", "1h", "--rate", "5"), "--rate has no effect with --rewind"),
    ],
)
def test_an_option_of_another_way_is_a_mistake(words: tuple[str, ...], says: str) -> None:
    found = replay("--stream", STREAM, *words)
    assert (found.exit_code, says in found.stderr) == (2, True), found.output


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


@pytest.mark.parametrize("rate", ["nan", "inf", "-inf", "0", "-1", "1e-9", "many"])
@pytest.mark.parametrize(
    "command",
    [
        ("put", "--stream", "no-such"),
        ("replay", "--stream", "no-such"),
        ("dead-letters", "redrive", "--config", "no-such"),
    ],
)
def test_a_rate_is_a_finite_number_above_zero(command: tuple[str, ...], rate: str) -> None:
    found = CliRunner().invoke(main, [*command, "--rate", rate], input="")
    assert found.exit_code == 2 and "Invalid value for '--rate'" in found.stderr, found.output


@pytest.mark.parametrize(("rate", "text"), [(50.0, "50"), (0.001, "0.001"), (1_000_000.0, "1000000"), (2.5, "2.5")])
def test_a_rate_is_written_without_an_exponent(rate: float, text: str) -> None:
    from consumer.cli.options import rate_text

    assert rate_text(rate) == text
