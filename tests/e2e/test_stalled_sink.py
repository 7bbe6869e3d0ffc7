"""A sink that stalls: memory bounded, leases kept, checkpoints still; when it recovers, all of it drains."""

from __future__ import annotations

import json

import pandas as pd

from tests.e2e.rig import Rig, wait_until

RECORDS = 3000
PAYLOAD = 8 * 1024
HELLO = 'factory = "tests.models:Echo"\nversion = "test-1"\nthreads = 1'


def test_a_stalled_sink_bounds_memory_keeps_leases_and_drains_when_it_recovers(rig: Rig) -> None:
    s3 = rig.aws.client("s3")
    s3.create_bucket(Bucket=rig.name)
    rig.create(shards=2)
    worker = rig.start(stalling_config(rig))
    rig.put([(json.dumps({"text": "warm"}).encode(), "warm")])
    rig.settle()
    with rig.aws.faults(service="s3", operation="PutObject", kind="error", status=503):
        flood(rig)
        wait_until(lambda: full(worker), 60, "the task is full")
        before = (rig.leases(), worker.stats()["records_in"])
        wait_until(lambda: counters_moved(rig, before[0]), 30, "leases renewed while the sink stalls")
        assert {k: v.checkpoint for k, v in rig.leases().items()} == {k: v.checkpoint for k, v in before[0].items()}
        assert worker.stats()["records_in"] < RECORDS
    rig.settle(deadline_s=120)
    assert worker.leave() == 0
    rows = read_s3(rig)
    assert sorted(rows["record_id"]) == sorted(rig.put_ids)
