"""Records that kill KCL's JVM or the host: they end a few tasks, and the shard goes on."""

from __future__ import annotations

import json
from base64 import b64decode
from functools import partial
from pathlib import Path

from pipeline.stores.folder import FolderStore
from pipeline.table.audit import audit
from tests.e2e.rig import ROOT, Rig, Worker, wait_until

ECHO = 'factory = "tests.e2e.models:Echo"\nversion = "test-1"\nthreads = 1'
DEADLY = Path(__file__).parent / "deadly"
KILLS_JVM, KILLS_HOST = "kills the JVM", "kills the host"
TASKS = 8


def test_no_record_stops_a_shard_for_long_wherever_it_kills(rig: Rig) -> None:
    """The record that kills the JVM costs two tasks and gets its row, because KCL is not needed for it; the record that
    kills the host costs three more."""
    rig.create(shards=1)
    said = [f"record {number}" for number in range(30)]
    said[5], said[20] = KILLS_JVM, KILLS_HOST
    rig.put([(json.dumps({"text": each}).encode(), "key") for each in said])
    config = rig.config(model=ECHO, kcl="failover_ms = 3000", batch="linger_ms = 1")
    for _ in range(TASKS):
        worker = rig.start(config, PYTHONPATH=f"{DEADLY}:{ROOT}")
        wait_until(partial(has_come_to_an_end, rig, worker), 120, "the shard's end, or the worker's")
        if rig.all_durable():
            break
        worker.killed = True
        if worker.process.returncode != 1 or not left_in_order(worker):
            rig.forget_leader()
    assert len(rig.workers) <= 6
    (letter,) = rig.dead_letters()
    assert letter["kind"] == "killed"
    assert json.loads(b64decode(letter["payload_base64"])) == {"text": KILLS_HOST}
    rows = rig.rows()
    assert sorted(rows["said"]) == sorted(set(said) - {KILLS_HOST})
    assert audit(FolderStore(rig.table), FolderStore(rig.folder / "dead-letter")).problems == []
    rig.put([(json.dumps({"text": "after all that"}).encode(), "key")])
    rig.settle()
    assert rig.workers[-1].leave() == 0
    assert "after all that" in set(rig.rows()["said"])


def has_come_to_an_end(rig: Rig, worker: Worker) -> bool:
    return worker.process.poll() is not None or rig.all_durable()


def left_in_order(worker: Worker) -> bool:
    return any("the JVM ended by itself" in str(entry["msg"]) for entry in worker.entries())
