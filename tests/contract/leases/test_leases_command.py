"""``penstock leases``, on moto."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from consumer.admin import release_lease, reset_leases
from consumer.aws.clients import Aws
from consumer.cli import main
from consumer.leases import worker_notes
from consumer.leases.binding import bind, find
from consumer.leases.leases import read
from consumer.leases.seed import seed
from consumer.leases.state import read_state
from consumer.leases.tables import delete_if
from pipeline.errors import RefusedError
from tests.contract.leases.test_lease_binding import MADE_S, NOW
from tests.support import kcl_layouts
from tests.support.kcl_tables import APP, SHARDS, STREAM, lead, owners, put, seen_alive

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient

CONFIG = f"""
[stream]
name = "{STREAM}"
application = "{APP}"
[model]
factory = "a:B"
version = "1"
[[sink]]
type = "parquet"
url = "out"
[dead_letter]
url = "dead"
[kcl]
failover_ms = 1000
"""


@pytest.fixture
def bound(tables: DynamoDBClient, kinesis: KinesisClient, monkeypatch: pytest.MonkeyPatch) -> DynamoDBClient:
    """An application whose stream was created again."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr(reset_leases, "MARGIN_S", -1.0)
    bind(tables, kinesis, APP, STREAM, MADE_S, "TRIM_HORIZON", NOW)
    seed(tables, kinesis, APP, STREAM, "TRIM_HORIZON")
    return tables


def reset(folder: Path, *options: str) -> Result:
    path = folder / "penstock.toml"
    path.write_text(CONFIG)
    undo = ["--undo", str(folder / "undo.json")]
    return CliRunner().invoke(main, ["leases", "reset", "--config", str(path), *undo, *options])


def restore(folder: Path, *options: str) -> Result:
    words = ["leases", "restore", str(folder / "undo.json"), "--config", str(folder / "penstock.toml")]
    return CliRunner().invoke(main, [*words, *options])


def test_the_plan_is_printed_and_nothing_is_changed(bound: DynamoDBClient, tmp_path: Path) -> None:
    result = reset(tmp_path)
    assert result.exit_code == 0, result.output
    assert all(shard in result.stdout for shard in SHARDS)
    assert f'stream "{STREAM}", created 2026-11-18' in result.stdout
    assert result.stdout.endswith("nothing changed; run again with --execute to delete the leases\n")
    assert list(owners(bound)) == SHARDS and find(bound, APP) is not None


def test_with_execute_the_leases_are_deleted(bound: DynamoDBClient, tmp_path: Path) -> None:
    result = reset(tmp_path, "--execute")
    assert result.exit_code == 0 and "done; to put the leases back: penstock leases restore " in result.stdout
    assert owners(bound) == {} and find(bound, APP) is None
    again = reset(tmp_path, "--execute", "--json")
    assert (again.exit_code, again.stdout) == (4, "")
    assert "has no leases" in again.stderr


def as_it_was(dynamodb: DynamoDBClient) -> list[dict[str, object]]:
    """Every lease, without its owner and counter."""
    left_out = {"leaseOwner", "leaseCounter"}
    items = [dict(lease.raw) for lease in read(dynamodb, APP)]
    return [{name: value for name, value in item.items() if name not in left_out} for item in items]


def test_a_restore_puts_back_all_that_a_reset_took(
    bound: DynamoDBClient, kinesis: KinesisClient, tmp_path: Path
) -> None:
    put(bound, SHARDS[0], leaseOwner="w", penstockDoubt="{}")
    before, binding, counters = as_it_was(bound), find(bound, APP), [each.counter for each in read(bound, APP)]
    assert reset(tmp_path, "--execute").exit_code == 0
    created_s = Aws().stream_created_s(STREAM)
    undo = tmp_path / "undo.json"
    undo.write_text(undo.read_text().replace(str(MADE_S), str(created_s)))
    planned = restore(tmp_path)
    assert (planned.exit_code, read(bound, APP)) == (0, [])
    assert planned.stdout.startswith(f"{SHARDS[0]}: no lease → 42/1, without an owner\n")
    assert restore(tmp_path, "--execute").exit_code == 0
    assert as_it_was(bound) == before
    assert set(owners(bound).values()) == {""}
    assert all(now.counter > then for now, then in zip(read(bound, APP), counters, strict=True))
    after = find(bound, APP)
    assert after is not None and binding is not None
    assert after == replace(binding, stream_created_s=created_s)
    assert restore(tmp_path, "--execute").exit_code == 4


def test_a_restore_is_refused_for_another_stream_or_after_a_new_start(
    bound: DynamoDBClient, kinesis: KinesisClient, tmp_path: Path
) -> None:
    assert reset(tmp_path, "--execute").exit_code == 0
    again = restore(tmp_path, "--execute")
    assert (again.exit_code, "the stream now is another one" in again.stderr) == (3, True)
    created_s = Aws().stream_created_s(STREAM)
    undo = tmp_path / "undo.json"
    undo.write_text(undo.read_text().replace(str(MADE_S), str(created_s)))
    put(bound, SHARDS[0])
    begun = restore(tmp_path, "--execute")
    assert (begun.exit_code, "has started again since" in begun.stderr) == (3, True)
    assert list(owners(bound)) == [SHARDS[0]]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema":"penstock.leases.undo/1","leases":[{}]}'])
def test_a_file_that_is_not_an_undo_file_is_reported(bound: DynamoDBClient, tmp_path: Path, text: str) -> None:
    assert reset(tmp_path).exit_code == 0
    assert "cannot be read" in restore(tmp_path).stderr
    (tmp_path / "undo.json").write_text(text)
    result = restore(tmp_path)
    assert (result.exit_code, "is not an undo file" in result.stderr) == (2, True)


def test_an_undo_file_that_is_there_is_kept(bound: DynamoDBClient, tmp_path: Path) -> None:
    (tmp_path / "undo.json").write_text("precious")
    result = reset(tmp_path, "--execute")
    assert (result.exit_code, list(owners(bound))) == (2, SHARDS)
    assert (tmp_path / "undo.json").read_text() == "precious"


def test_an_interrupted_reset_continues_and_keeps_its_first_undo_file(
    bound: DynamoDBClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, delete, deleted = as_it_was(bound), delete_if, list[object]()

    def interrupted(*arguments: Any, **conditions: Any) -> bool:
        if deleted:
            raise KeyboardInterrupt
        deleted.append(arguments)
        return delete(*arguments, **conditions)

    with monkeypatch.context() as patched:
        patched.setattr("consumer.admin.reset_leases.delete_if", interrupted)
        assert reset(tmp_path, "--execute").exit_code != 0
    first = (tmp_path / "undo.json").read_text()
    assert len(owners(bound)) == len(SHARDS) - 1
    again = reset(tmp_path, "--execute")
    assert (again.exit_code, owners(bound), (tmp_path / "undo.json").read_text()) == (0, {}, first), again.output
    assert len(json.loads(first)["leases"]) == len(before)


def test_a_reset_while_a_worker_renews_is_refused(
    bound: DynamoDBClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = reset_leases.plan(bound, APP)
    moved = [replace(lease, counter=lease.counter + 1, owner="w") for lease in planned.leases]
    monkeypatch.setattr(reset_leases, "read", lambda *_: moved)
    monkeypatch.setattr(reset_leases, "plan", lambda *_: planned)
    result = reset(tmp_path, "--execute")
    assert (result.exit_code, "worker w holds the lease" in result.stderr) == (3, True)


def leases(*words: str) -> Result:
    return CliRunner().invoke(main, ["leases", *words, "--application", APP, "--stream", STREAM])


LISTED = """\
application "app", not bound to a stream; three tables
3 leases, leader a

shard|owner|position|counter|switches|KB/s|parents|remarks
shardId-000000000001|b|49600000000000000000000000000000000000000000000000000001/0|7|1|12.5|shardId-000000000000|\
a drains it for b
shardId-000000000002|a|TRIM_HORIZON|7|1|unknown|shardId-000000000000|
shardId-000000000000|none|SHARD_END|7|1|unknown||
"""


@pytest.fixture
def running(tables: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> DynamoDBClient:
    """A split parent, and a handoff from the leader ``a`` to ``b``."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    for item in kcl_layouts.leases():
        tables.put_item(TableName=APP, Item=item)
    lead(tables, "a")
    seen_alive(tables, "a")
    return tables


def test_leases_are_listed(running: DynamoDBClient) -> None:
    assert leases("list").stdout == LISTED.replace("|", "\t")
    said = json.loads(leases("list", "--json").stdout)
    assert (said["schema"], said["leader"], len(said["leases"])) == ("penstock.leases.list/1", "a", 3)
    assert said["leases"][0]["drained_by"] == "a"


def test_a_lease_is_shown_with_all_of_its_attributes(running: DynamoDBClient) -> None:
    said = json.loads(leases("show", SHARDS[1], "--json").stdout)
    assert said["schema"] == "penstock.leases.show/1"
    assert said["attributes"]["leaseCounter"] == "7"
    assert said["attributes"]["parentShardId"] == [SHARDS[0]]
    assert "leaseCounter\t7\n" in leases("show", SHARDS[1]).stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["show", "shardId-9"], 2, 'no lease of "shardId-9"'),
        (["release", "shardId-9"], 2, 'no lease of "shardId-9"'),
        (["release", SHARDS[0]], 4, "read to its end"),
        (["release", SHARDS[1]], 3, "a drains it for b"),
    ],
)
def test_impossible_requests_are_refused_with_the_reason(
    running: DynamoDBClient, words: list[str], code: int, said: str
) -> None:
    result = leases(*words)
    assert (result.exit_code, said in result.stderr) == (code, True), result.stderr


def test_no_table_is_said(dynamodb: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    for words in (["list"], ["show", SHARDS[0]], ["release", SHARDS[0]]):
        result = leases(*words)
        assert (result.exit_code, "there is no lease table" in result.stderr) == (2, True)


RELEASED = """\
shardId-000000000002: owner a → none; position TRIM_HORIZON stays
one call: UpdateItem, if owner and counter have not changed
next: a drops the shard within 3 s; leader a gives it to the worker with the least load within 20 s, which may be the \
same one
records after the position are processed again: how many is unknown
a day: unchanged
"""


def test_a_release_is_planned_and_carried_out(running: DynamoDBClient) -> None:
    planned = leases("release", SHARDS[2])
    assert planned.stdout == RELEASED + "nothing changed; run again with --execute to free it\n"
    assert owners(running)[SHARDS[2]] == "a"
    done = leases("release", SHARDS[2], "--execute")
    assert done.stdout == RELEASED + "done: the lease is free\n"
    (lease,) = [each for each in read(running, APP) if each.shard_id == SHARDS[2]]
    assert (lease.owner, lease.counter, lease.sentinel) == ("", 107, "TRIM_HORIZON")
    again = leases("release", SHARDS[2], "--execute", "--json")
    assert (again.exit_code, "its lease is free" in again.stderr) == (4, True)


def test_a_lease_that_is_renewed_meanwhile_is_released_all_the_same(running: DynamoDBClient) -> None:
    state = read_state(running, APP)
    planned = release_lease.plan(state, SHARDS[2], time.time())
    stale = replace(planned, lease=replace(planned.lease, counter=3))
    release_lease.carry_out(running, APP, stale, lambda _: None)
    assert owners(running)[SHARDS[2]] == ""


@pytest.mark.parametrize("changes", [{"leaseOwner": "c"}, {"checkpointOwner": "c"}, {"pendingCheckpoint": "43"}])
def test_a_lease_that_changes_its_owner_meanwhile_is_not_touched(
    running: DynamoDBClient, changes: dict[str, str]
) -> None:
    planned = release_lease.plan(read_state(running, APP), SHARDS[2], time.time())
    put(running, SHARDS[2], **{"leaseOwner": "a", **changes})
    before = read(running, APP)
    with pytest.raises(RefusedError):
        release_lease.carry_out(running, APP, planned, lambda _: None)
    assert read(running, APP) == before


def silent_s(refused: Result) -> int:
    """The age that a refusal tells, by a clock that went on since the test noted the worker's report."""
    found = re.search(r"leader a has not reported for (\d+) s", refused.stderr)
    assert found, refused.stderr
    return int(found[1])


def test_without_a_living_leader_nothing_is_released(running: DynamoDBClient) -> None:
    seen_alive(running, "a", seconds_ago=100)
    silent = leases("release", SHARDS[2], "--execute")
    assert (silent.exit_code, silent_s(silent) >= 100) == (3, True), silent.stderr
    seen_alive(running, "a", seconds_ago=22)
    worker_notes.write(running, APP, worker_notes.WorkerNote("a", "http://127.0.0.1:1", "h", time.time() - 22, {}))
    killed = leases("release", SHARDS[2], "--execute")  # a worker of Penstock is dead after less than one of KCL alone
    assert (killed.exit_code, 22 <= silent_s(killed) < 100) == (3, True), killed.stderr
    running.delete_item(TableName=f"{APP}-WorkerMetricStats", Key={"wid": {"S": "a"}})
    running.delete_item(TableName=f"{APP}-CoordinatorState", Key={"key": {"S": f"{worker_notes.PREFIX}a"}})
    unseen = leases("release", SHARDS[2], "--execute")
    assert (unseen.exit_code, "leader a has not reported: " in unseen.stderr) == (3, True), unseen.stderr
    running.delete_item(TableName=f"{APP}-CoordinatorState", Key={"key": {"S": "Leader"}})
    headless = leases("release", SHARDS[2], "--execute")
    assert (headless.exit_code, "there is no leader" in headless.stderr) == (3, True)
    assert owners(running)[SHARDS[2]] == "a"


def test_as_json_the_plan_is_one_object(bound: DynamoDBClient, tmp_path: Path) -> None:
    said = json.loads(reset(tmp_path, "--json").stdout)
    assert [lease["shard_id"] for lease in said["leases"]] == SHARDS
    assert said["executed"] is False and said["start"] == "TRIM_HORIZON"


def test_a_missing_stream_is_reported(bound: DynamoDBClient, kinesis: KinesisClient, tmp_path: Path) -> None:
    kinesis.delete_stream(StreamName=STREAM)
    result = reset(tmp_path, "--execute")
    kinesis.create_stream(StreamName=STREAM, ShardCount=1)
    assert result.exit_code == 2 and "it does not exist" in result.stderr
    assert list(owners(bound)) == SHARDS
