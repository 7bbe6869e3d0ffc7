"""A shard that KCL may not read, a deleted lease, a stream that is created again: the worker reports each."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from consumer.cli import main
from tests.e2e.rig import UP_S, Rig, Worker, wait_until

SHARD = "shardId-000000000001"
STUCK_S = 8
SOON_S = 30


def a_shard_that_may_not_be_read_is_reported(rig: Rig, config: Path) -> Worker:
    """By the worker that is returned: it is red until KCL may read the shard."""
    with rig.aws.faults(
        service="kinesis",
        operation="GetShardIterator",
        match=SHARD,
        kind="error",
        status=400,
        code="AccessDeniedException",
    ):
        worker = rig.start(config)
        put(rig, "refused")
        told = wait_until(lambda: unwell(worker), UP_S, "/healthz tells of the shard that is not read")
        assert SHARD.encode() in told and b"AccessDeniedException" in told
        assert worker.get("/readyz")[0] == 503
    rig.settle()
    wait_until(lambda: worker.get("/readyz")[0] == 200, SOON_S, "ready")
    assert worker.get("/healthz") == (200, b"ok\n")
    return worker


def a_deleted_lease_is_made_again(rig: Rig) -> None:
    rig.dynamodb.delete_item(TableName=rig.name, Key={"leaseKey": {"S": SHARD}})
    wait_until(lambda: SHARD in rig.leases(), SOON_S, "the lease that was deleted is there again")
    put(rig, "after")
    rig.settle()
    rig.expect_each_once()


def a_second_stream_is_refused(rig: Rig, config: Path) -> None:
    rig.kinesis.create_stream(StreamName=f"{rig.name}-second", ShardCount=1)
    other = rig.folder / "second.toml"
    other.write_text(config.read_text().replace(f'name = "{rig.name}"', f'name = "{rig.name}-second"', 1))
    second = rig.start(other)
    assert second.process.wait(UP_S) == 2
    assert "Use another stream.application" in last_words(second)
    rig.workers.remove(second)


def a_stream_created_again_is_refused(rig: Rig, worker: Worker, config: Path) -> None:
    """Neither the running worker nor the next one uses the old leases."""
    rig.kinesis.delete_stream(StreamName=rig.name)
    wait_until(lambda: rig.name not in rig.kinesis.list_streams()["StreamNames"], SOON_S, "the stream is gone")
    rig.create(shards=2)
    assert worker.process.wait(90) == 2
    assert "was created again at" in last_words(worker)
    again = rig.start(config)
    assert again.process.wait(UP_S) == 2 and "was created again at" in last_words(again)


def after_a_reset_the_application_starts_again(rig: Rig, config: Path) -> None:
    words = ["--config", str(config), "--undo", str(rig.folder / "undo.json"), "--execute"]
    reset = CliRunner().invoke(main, ["leases", "reset", *words])
    assert reset.exit_code == 0, reset.output
    rig.put_ids.clear()
    rig.ends.clear()
    before = set(rig.rows()["record_id"])
    again = rig.start(config)
    put(rig, "again")
    rig.settle()
    assert again.leave() == 0
    assert set(rig.rows()["record_id"]) - before == rig.put_ids


def put(rig: Rig, what: str) -> None:
    rig.put([(json.dumps({"text": f"{what} {number}"}).encode(), str(number)) for number in range(40)])


def unwell(worker: Worker) -> bytes | None:
    if not worker.stats()["shards"]:
        return None
    status, told = worker.get("/healthz")
    return told if status != 200 else None


def last_words(worker: Worker) -> str:
    return str(worker.entries()[-1]["msg"])
