"""A sink that stalls: memory is bounded, leases are kept, checkpoints stop; when it recovers, everything drains."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import psutil

from tests.e2e.rig import Rig, Worker, wait_until

RECORDS = 4000
TEXT = "x" * 8 * 1024
IN_FLIGHT_MIB = 16
STUCK_S = 8
MEMORY_MIB = 200
"""MiB by which a full host may grow: the records in flight, memory of Arrow and the encoder, and slack."""


def test_a_stalled_sink_bounds_memory_keeps_leases_and_drains_when_it_recovers(rig: Rig) -> None:
    s3 = rig.aws.client("s3")
    s3.create_bucket(Bucket=rig.name)
    rig.create(shards=2)
    worker = rig.start(config(rig))
    rig.put([(json.dumps({"text": "first"}).encode(), "first")])
    rig.settle()
    resting_mib = memory_mib(worker)
    with rig.aws.faults(service="s3", operation="PutObject", kind="error", status=503):
        rig.put((json.dumps({"text": f"{number} {TEXT}"}).encode(), str(number)) for number in range(RECORDS))
        wait_until(lambda: worker.stats()["in_flight_bytes"] >= IN_FLIGHT_MIB * 2**20, 60, "the task is full")
        leases = rig.leases()
        wait_until(lambda: renewed(rig, leases), 30, "both leases renewed while the sink stalls")
        assert positions(rig) == {shard_id: lease.checkpoint for shard_id, lease in leases.items()}
        assert worker.stats()["records_in"] < RECORDS
        assert memory_mib(worker) - resting_mib < MEMORY_MIB
        status, told = wait_until(lambda: unwell(worker), 30, "/healthz tells of shards that do not get on")
        assert status == 503 and b"is stuck: no progress for" in told and b"SlowDown (for " in told
        assert b"penstock_outage_seconds" in worker.get("/metrics")[1]
    rig.settle()
    wait_until(lambda: worker.get("/healthz") == (200, b"ok\n"), 30, "all is well again")
    assert worker.leave() == 0
    assert sorted(rows(rig)["record_id"]) == sorted(rig.put_ids)


def config(rig: Rig) -> Path:
    return rig.config(
        model='factory = "tests.e2e.models:Echo"\nversion = "test-1"\nthreads = 1\ntimeout_s = 5',
        health=f"stuck_after_s = {STUCK_S}",
        in_flight=f"total_mib = {IN_FLIGHT_MIB}",
        sinks=f'[[sink]]\ntype = "parquet"\nurl = "s3://{rig.name}/enriched"\nflush_interval_s = 2\nflush_mib = 4',
    )


def unwell(worker: Worker) -> tuple[int, bytes] | None:
    status, told = worker.get("/healthz")
    return (status, told) if status != 200 else None


def memory_mib(worker: Worker) -> float:
    return float(psutil.Process(worker.process.pid).memory_info().rss / 2**20)


def renewed(rig: Rig, before) -> bool:  # type: ignore[no-untyped-def]  # leases by shard
    return all(lease.counter > before[shard_id].counter for shard_id, lease in rig.leases().items())


def positions(rig: Rig):  # type: ignore[no-untyped-def]  # positions by shard
    return {shard_id: lease.checkpoint for shard_id, lease in rig.leases().items()}


def rows(rig: Rig) -> pd.DataFrame:
    s3 = rig.aws.client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=rig.name, Prefix="enriched/")
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    bodies = [s3.get_object(Bucket=rig.name, Key=key)["Body"].read() for key in keys]
    return pd.concat([pd.read_parquet(io.BytesIO(body)) for body in bodies])
