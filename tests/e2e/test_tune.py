"""``penstock run`` uses the result of ``penstock tune``."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.e2e.rig import ROOT, Rig

RECORDS = 200
ECHO = 'factory = "tests.e2e.models:Echo"\nversion = "test-1"'


def test_a_task_works_with_the_replicas_and_threads_that_were_found_best(rig: Rig) -> None:
    rig.create(shards=1)
    rig.put((json.dumps({"text": str(number)}).encode(), f"key-{number}") for number in range(RECORDS))
    config = rig.config(model=ECHO)
    command = [sys.executable, "-m", "consumer.cli", "tune", "--config", str(config), "--seconds", "3", "--json"]
    tuned = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **rig.aws.env}, check=True, capture_output=True, text=True, timeout=60
    )
    best = json.loads(tuned.stdout)["best"]
    worker = rig.start(config)
    rig.settle()
    assert len(worker.tree()["replica"]) == best["replicas"]
    said = [str(entry["msg"]) for entry in worker.entries()]
    [used] = [line for line in said if line.startswith(f"{config.stem}.profile.json of ")]
    assert used.endswith(f"replicas {best['replicas']}, threads {best['threads']}")
    assert worker.leave() == 0
    assert len(rig.expect_each_once()) == RECORDS
