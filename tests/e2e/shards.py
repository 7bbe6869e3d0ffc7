"""``penstock shards`` on a running application: an interrupted scale that is continued, and a skipped record."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

from click.testing import CliRunner

from consumer.cli import main
from pipeline.stores.folder import FolderStore
from pipeline.table.audit import audit
from tests.e2e.rig import PENSTOCK, ROOT, Rig, wait_until

FIRST, WANTED = 1, 3
"""Kinesis goes from one to the other with two calls."""


def scale(config: Path) -> list[str]:
    return ["shards", "scale", str(WANTED), "--config", str(config), "--execute", "--wait"]


def a_scale_is_interrupted(rig: Rig, config: Path) -> None:
    """Between its two calls: Kinesis refuses the second for now."""
    log = rig.folder / "scale.log"
    second = f'"TargetShardCount": {WANTED}'
    busy = {"kind": "error", "status": 400, "code": "LimitExceededException"}
    with rig.aws.faults(service="kinesis", operation="UpdateShardCount", match=second, **busy):
        with log.open("w") as out:
            env = {**os.environ, "PYTHONPATH": str(ROOT)}
            command = [*PENSTOCK, *scale(config)]
            first = subprocess.Popen(command, env=env, cwd=rig.folder, stderr=out, stdout=out)
        done = f"done: UpdateShardCount to {2 * FIRST} (from {FIRST})"
        wait_until(lambda: done in log.read_text(), 60, "the first of two calls")
        first.send_signal(signal.SIGINT)
        assert first.wait(30) == 130, log.read_text()
    assert len(open_shards(rig)) == 2 * FIRST


def an_interrupted_scale_goes_on(rig: Rig, config: Path) -> None:
    again = CliRunner().invoke(main, scale(config))
    assert again.exit_code == 0, again.output
    assert f"application {rig.name} has followed: every lease is owned and moving" in again.output
    assert len(open_shards(rig)) == WANTED
    assert rig.leases()[rig.shards()[0]["ShardId"]].ended, "a parent is read to its end"


def open_shards(rig: Rig) -> list[str]:
    return [each["ShardId"] for each in rig.shards() if "EndingSequenceNumber" not in each["SequenceNumberRange"]]


def a_record_is_passed_over(rig: Rig, config: Path) -> None:
    """The record waits behind a backlog of some seconds, and its worker is healthy."""
    ids = rig.put([(json.dumps({"text": f"one shard's {n}"}).encode(), "key") for n in range(2_000)])
    _, shard, last, _ = ids[-1].split("/")
    arguments = ("--past", last, "--why", "ticket 7", "--config", str(config), "--execute", "--wait", "--timeout", "3m")
    assert rig.leases()[shard].owner == rig.workers[0].id
    skipped = CliRunner().invoke(main, ["shards", "skip", shard, *arguments])
    assert skipped.exit_code == 0, skipped.output
    rig.put([(json.dumps({"text": "after all that"}).encode(), "key")])
    rig.settle()
    (letter,) = rig.dead_letters()
    assert (letter["kind"], letter["record_id"]) == ("skipped", ids[-1])
    assert letter["reason"] == "an operator passed over it: ticket 7"
    assert sorted(rig.rows()["record_id"]) == sorted(rig.put_ids - {ids[-1]})
    assert audit(FolderStore(rig.table), FolderStore(rig.folder / "dead-letter")).problems == []
