"""Faults that an operator injects on purpose: a throttled lease table, a lost one, and all tasks told to leave at once.

deploy/RUNBOOK.md says what the operator sees of each.
"""

from __future__ import annotations

import json
import signal
import time

from tests.e2e.rig import LEAVE_S, UP_S, Rig, Worker, wait_until

ECHO = 'factory = "tests.e2e.models:Echo"\nversion = "1"\nthreads = 1'
SOON = "failover_ms = 4000"
RECORDS = 100


def test_throttled_and_lost_tables_and_a_spot_storm_lose_and_double_nothing(rig: Rig) -> None:
    rig.create(2)
    config = rig.config(model=ECHO, kcl=SOON)
    put(rig)
    worker = rig.start(config)
    rig.settle()
    throttled(rig, worker)
    lost(rig, worker)
    workers = [rig.start(config), rig.start(config)]
    put(rig)
    rig.settle()
    totals = [each.stats() for each in workers]
    assert sum(each["records_in"] for each in totals) >= len(rig.put_ids), "read again from the start of the stream"
    assert sum(each["enriched"] for each in totals) == RECORDS, "records that the table holds are not sent to the model"
    storm(rig, workers)
    rig.expect_each_once()


def throttled(rig: Rig, worker: Worker) -> None:
    """Every call of DynamoDB is refused: rows are written, checkpoints are not. The worker stays, and says why."""
    with rig.aws.faults(service="dynamodb", kind="throttle"):
        put(rig)
        wait_until(lambda: worker.stats()["durable"] == 2 * RECORDS, UP_S, "rows are durable")
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


def put(rig: Rig) -> None:
    rig.put((json.dumps({"text": f"{number}"}).encode(), f"{number}") for number in range(RECORDS))
