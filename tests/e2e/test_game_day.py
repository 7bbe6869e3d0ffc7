"""Faults that an operator injects on purpose: a sink that stalls, a throttled lease table, a lost one, and all tasks
told to leave at once.

deploy/RUNBOOK.md says what the operator sees of each.
"""

from __future__ import annotations

import io
import json
import signal
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from consumer.local.process import LocalAWS
from pipeline.record import Position
from pipeline.stores.folder import FolderStore
from pipeline.stores.s3 import S3Store
from pipeline.table.audit import audit
from tests.e2e.rig import LEAVE_S, UP_S, Rig, Worker, wait_until

RECORDS = 100
LARGE, TEXT = 750, "x" * 32 * 1024
IN_FLIGHT_MIB = 16
STUCK_S = 8
MEMORY_MIB = 200
"""MiB by which a full host may grow: the records in flight, memory of Arrow and the encoder, and slack."""


def test_stalled_sinks_throttled_and_lost_tables_and_a_spot_storm_lose_and_double_nothing(
    unlimited: LocalAWS, tmp_path: Path
) -> None:
    rig = Rig(unlimited, "game-day", tmp_path)
    try:
        play(rig)
    finally:
        rig.clean()


def play(rig: Rig) -> None:
    rig.aws.client("s3").create_bucket(Bucket=rig.name)
    rig.create(2)
    config = configured(rig)
    put(rig)
    worker = rig.start(config)
    rig.settle()
    stalled(rig, worker)
    throttled(rig, worker)
    lost(rig, worker)
    workers = [rig.start(config), rig.start(config)]
    put(rig)
    rig.settle()
    totals = [each.stats() for each in workers]
    assert sum(each["records_in"] for each in totals) >= len(rig.put_ids), "read again from the start of the stream"
    assert sum(each["enriched"] for each in totals) == RECORDS, "records that the table holds are not sent to the model"
    storm(rig, workers)
    each_once(rig)


def configured(rig: Rig) -> Path:
    return rig.config(
        model='factory = "tests.e2e.models:Echo"\nversion = "test-1"\nthreads = 1\ntimeout_s = 5',
        kcl="failover_ms = 4000\nproperties.maxRecords = 100",  # small reads: the task is full before it has all
        health=f"stuck_after_s = {STUCK_S}",
        in_flight=f"total_mib = {IN_FLIGHT_MIB}",
        sinks=f'[[sink]]\ntype = "parquet"\nurl = "s3://{rig.name}/enriched"\nflush_interval_s = 2\nflush_mib = 4',
    )


def put(rig: Rig) -> None:
    rig.put((json.dumps({"text": f"{number}"}).encode(), f"{number}") for number in range(RECORDS))


def stalled(rig: Rig, worker: Worker) -> None:
    """S3 refuses every file: memory is bounded, leases are kept, checkpoints stop. When it recovers, all drains."""
    resting_mib = memory_mib(worker)
    before = worker.stats()["records_in"]
    with rig.aws.faults(service="s3", operation="PutObject", kind="error", status=503):
        rig.put((json.dumps({"text": f"{number} {TEXT}"}).encode(), str(number)) for number in range(LARGE))
        wait_until(lambda: worker.stats()["in_flight_bytes"] >= IN_FLIGHT_MIB * 2**20, 60, "the task is full")
        leases = rig.leases()
        wait_until(
            lambda: all(lease.counter > leases[shard].counter for shard, lease in rig.leases().items()),
            30,
            "both leases renewed while the sink stalls",
        )
        status, told = wait_until(lambda: unwell(worker), 30, "/healthz tells of shards that do not get on")
        assert status == 503 and b"is stuck: no progress for" in told and b"SlowDown (for " in told
        assert positions(rig) == {shard_id: lease.checkpoint for shard_id, lease in leases.items()}
        assert worker.stats()["records_in"] - before < LARGE, "a full task takes no more records"
        assert memory_mib(worker) - resting_mib < MEMORY_MIB
        assert b"penstock_outage_seconds" in worker.get("/metrics")[1]
    rig.settle()
    wait_until(lambda: worker.get("/healthz") == (200, b"ok\n"), 30, "all is well again")


def memory_mib(worker: Worker) -> float:
    return float(psutil.Process(worker.process.pid).memory_info().rss / 2**20)


def unwell(worker: Worker) -> tuple[int, bytes] | None:
    status, told = worker.get("/healthz")
    return (status, told) if status != 200 else None


def positions(rig: Rig) -> dict[str, Position | None]:
    return {shard_id: lease.checkpoint for shard_id, lease in rig.leases().items()}


def throttled(rig: Rig, worker: Worker) -> None:
    """Every call of DynamoDB is refused: rows are written, checkpoints are not. The worker stays, and says why."""
    before = worker.stats()["durable"]
    with rig.aws.faults(service="dynamodb", kind="throttle"):
        put(rig)
        wait_until(lambda: worker.stats()["durable"] == before + RECORDS, UP_S, "rows are durable")
        wait_until(lambda: any(tells(outage) for outage in worker.stats()["outages"]), UP_S, "the outage is told")
    rig.settle()


def tells(outage: dict[str, str]) -> bool:
    return outage["part"] == "leases" and "ThroughputExceeded" in outage["reason"]


def lost(rig: Rig, worker: Worker) -> None:
    """The tables are deleted under a worker that has nothing to checkpoint. It ends with the reason."""
    for table in rig.dynamodb.list_tables()["TableNames"]:
        if table.startswith(rig.name):
            rig.dynamodb.delete_table(TableName=table)
    assert worker.process.wait(UP_S) == 1
    last = [entry["msg"] for entry in worker.entries() if entry["level"] == "ERROR" and entry["logger"] == "penstock"]
    assert f'the lease table "{rig.name}" was deleted' in last[-1]
    rig.workers.remove(worker)


def storm(rig: Rig, workers: list[Worker]) -> None:
    """SIGTERM for all at once, as when Spot takes its capacity back."""
    began_s = time.monotonic()
    for worker in workers:
        worker.signal(signal.SIGTERM)
    assert [worker.process.wait(LEAVE_S) for worker in workers] == [0, 0]
    assert time.monotonic() - began_s < LEAVE_S
    assert rig.leader() == "" and not any(lease.owner for lease in rig.leases().values())


def each_once(rig: Rig) -> None:
    """As :meth:`Rig.expect_each_once`, for a table on S3."""
    store = S3Store(rig.aws.client("s3"), rig.name, "enriched")
    keys = [key for key in store.list("") if key.endswith(".parquet")]
    tables = [pq.read_table(io.BytesIO(store.get(key) or b""), columns=["record_id"]) for key in keys]
    assert sorted(each for table in tables for each in table["record_id"].to_pylist()) == sorted(rig.put_ids)
    assert audit(store, FolderStore(rig.folder / "dead-letter")).problems == []
