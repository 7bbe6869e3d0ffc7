"""``penstock replay --rewind``: plans, refusals, moved and restored leases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from consumer.admin.replay import carry_out
from pipeline.record import LAST_SUB, Position
from tests.cli.replay.world import APP, World, config, replay


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
