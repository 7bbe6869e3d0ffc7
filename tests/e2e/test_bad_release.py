"""A release that fails on every record ends before it has eaten the stream, however often it is started."""

from __future__ import annotations

import json

from tests.e2e.rig import Rig

GOOD, BAD = 100, 3000
LIMIT = 300
ECHO = 'factory = "tests.e2e.models:Echo"\nversion = "1"\nthreads = 1'
MISSPELT = 'factory = "tests.e2e.models:Misspelt"\nversion = "2"\nthreads = 1'
LETTERS = f"max_consecutive = {LIMIT}"


def test_a_misspelt_key_ends_the_task_with_its_checkpoint_before_all_of_it(rig: Rig) -> None:
    rig.create(shards=2)
    worker = rig.start(rig.config(model=ECHO))
    rig.put((json.dumps({"text": f"good {number}"}).encode(), f"{number}") for number in range(GOOD))
    rig.settle()
    assert worker.leave() == 0
    before = {shard_id: lease.checkpoint for shard_id, lease in rig.leases().items()}
    rig.put((json.dumps({"text": f"{number}"}).encode(), f"{number}") for number in range(BAD))
    for _ in range(2):
        bad = rig.start(rig.config(model=MISSPELT, dead_letter=LETTERS))
        assert bad.process.wait(120) == 1, bad.log.read_text()[-4000:]
        [error] = [entry for entry in bad.entries() if entry["level"] == "ERROR"]
        assert "dead_letter.max_consecutive" in error["msg"] and "\n" not in error["msg"]
        assert "exception (KeyError at models.py:" in error["msg"] and f"such as {rig.name}/shardId-" in error["msg"]
        told = [entry["msg"] for entry in bad.entries() if "dead letter: " in str(entry["msg"])]
        assert len(told) == 1 and "KeyError at models.py:" in told[0] and "txet" not in told[0]
        assert {shard_id: lease.checkpoint for shard_id, lease in rig.leases().items()} == before
        assert rig.dead_letters() == []
    rig.start(rig.config(model=ECHO))
    rig.settle()
    rig.expect_each_once()
