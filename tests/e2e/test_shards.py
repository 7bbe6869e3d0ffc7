"""``penstock shards`` on a running application: an interrupted scale that is continued, and a skipped record."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

from pipeline.stores.folder import FolderStore
from pipeline.table.audit import audit
from tests.e2e.rig import PENSTOCK, ROOT, Rig, wait_until


def penstock(rig: Rig, *arguments: str) -> subprocess.Popen[str]:
    env = {**rig.aws.env, "XDG_STATE_HOME": str(rig.folder / "state"), "PATH": "/usr/bin", "PYTHONPATH": str(ROOT)}
    with (rig.folder / "shards.log").open("a") as log:
        return subprocess.Popen(
            [*PENSTOCK, "shards", *arguments], env=env, cwd=rig.folder, stderr=log, stdout=log, text=True
        )


def said(rig: Rig) -> str:
    return (rig.folder / "shards.log").read_text()


def test_a_running_application_follows_a_scale_and_passes_over_a_record(rig: Rig) -> None:
    rig.create(shards=2)
    config = rig.config(kcl="failover_ms = 3000")
    worker = rig.start(config)
    rig.put([(json.dumps({"text": f"before {n}"}).encode(), f"{n}") for n in range(100)])
    rig.enriched(10)
    an_interrupted_scale_goes_on(rig, config)
    rig.put([(json.dumps({"text": f"after {n}"}).encode(), f"{n}") for n in range(100)])
    rig.settle()
    assert set(rig.owners().values()) == {worker.id}
    assert len(rig.owners()) == 6
    rig.expect_each_once()
    a_record_is_passed_over(rig, config)
    assert worker.leave() == 0


def an_interrupted_scale_goes_on(rig: Rig, config: Path) -> None:
    arguments = ("scale", "6", "--config", str(config), "--execute", "--wait")
    first = penstock(rig, *arguments)
    wait_until(lambda: "done: UpdateShardCount to 4 (from 2)" in said(rig), 60, "the first of two calls")
    first.send_signal(signal.SIGINT)
    assert first.wait(30) == 130, said(rig)
    again = penstock(rig, *arguments)
    assert again.wait(180) == 0, said(rig)
    assert f"application {rig.name} has followed: every lease is owned and moving" in said(rig)
    shards = rig.shards()
    assert sum("EndingSequenceNumber" not in shard["SequenceNumberRange"] for shard in shards) == 6
    assert rig.leases()[shards[0]["ShardId"]].ended, "a parent is read to its end"


def a_record_is_passed_over(rig: Rig, config: Path) -> None:
    """The record waits behind a backlog of some seconds, and its worker is healthy."""
    ids = rig.put([(json.dumps({"text": f"one shard's {n}"}).encode(), "key") for n in range(2_000)])
    _, shard, last, _ = ids[-1].split("/")
    arguments = ("--past", last, "--why", "ticket 7", "--config", str(config), "--execute", "--wait", "--timeout", "3m")
    assert rig.leases()[shard].owner == rig.workers[0].id
    skipping = penstock(rig, "skip", shard, *arguments)
    assert skipping.wait(200) == 0, said(rig)
    rig.put([(json.dumps({"text": "after all that"}).encode(), "key")])
    rig.settle()
    (letter,) = rig.dead_letters()
    assert (letter["kind"], letter["record_id"]) == ("skipped", ids[-1])
    assert letter["reason"] == "an operator passed over it: ticket 7"
    assert sorted(rig.rows()["record_id"]) == sorted(rig.put_ids - {ids[-1]})
    assert audit(FolderStore(rig.table), FolderStore(rig.folder / "dead-letter")).problems == []
