"""Faults written by hand into KCL's tables: ``penstock status`` names each within two looks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from consumer.admin.status.diagnose import diagnose
from consumer.admin.status.observe import Observer
from consumer.admin.status.reasons import STILL_S
from consumer.admin.status.report import Kind
from consumer.admin.status.snapshot import Snapshot
from consumer.leases import worker_notes
from consumer.leases.worker_notes import WorkerNote
from tests.support.kcl_tables import APP, SHARDS, STREAM, lead, put, seen_alive

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient

FIRST, SECOND, THIRD = SHARDS
LOOKS = 2

Fault = Callable[["DynamoDBClient"], None]


def change(dynamodb: DynamoDBClient, shard: str, **attributes: Any) -> None:
    """Set attributes of a lease; None removes one."""
    key = {"leaseKey": {"S": shard}}
    item = dynamodb.get_item(TableName=APP, Key=key)["Item"]
    item = {name: value for name, value in {**item, **attributes}.items() if value is not None}
    dynamodb.put_item(TableName=APP, Item=item)


def says(dynamodb: DynamoDBClient, worker: str, **stats: Any) -> None:
    worker_notes.write(dynamodb, APP, WorkerNote(worker, "", "", time.time(), stats))


def no_owner(dynamodb: DynamoDBClient) -> None:
    change(dynamodb, FIRST, leaseOwner=None)


def parent(dynamodb: DynamoDBClient) -> None:
    change(dynamodb, FIRST, parentShardId={"SS": [SECOND]}, checkpoint={"S": "TRIM_HORIZON"})


def handoff(dynamodb: DynamoDBClient) -> None:
    change(dynamodb, FIRST, leaseOwner={"S": "b"}, checkpointOwner={"S": "a"})


def leader_dead(dynamodb: DynamoDBClient) -> None:
    no_owner(dynamodb)
    seen_alive(dynamodb, "a", seconds_ago=200)


def nobody_leads(dynamodb: DynamoDBClient) -> None:
    no_owner(dynamodb)
    dynamodb.delete_item(TableName=f"{APP}-CoordinatorState", Key={"key": {"S": "Leader"}})


def owner_dead(dynamodb: DynamoDBClient) -> None:
    change(dynamodb, FIRST, leaseOwner={"S": "gone"})
    seen_alive(dynamodb, "gone", seconds_ago=200)


def max_leases(dynamodb: DynamoDBClient) -> None:
    no_owner(dynamodb)
    for worker in ("a", "b"):
        says(dynamodb, worker, max_leases=1)


def no_metric(dynamodb: DynamoDBClient) -> None:
    no_owner(dynamodb)
    failing: dict[str, Any] = {"M": {"CPU": {"L": [{"N": "20"}, {"N": "-1"}]}}}
    for worker in ("a", "b"):
        item: dict[str, Any] = {"wid": {"S": worker}, "lut": {"N": str(int(time.time()))}, "sts": failing}
        dynamodb.put_item(TableName=f"{APP}-WorkerMetricStats", Item=item)


def careful(dynamodb: DynamoDBClient) -> None:
    change(dynamodb, FIRST, penstockDoubt={"S": '{"deaths":[["c","killed"],["d","killed"]]}'})


def no_lease(dynamodb: DynamoDBClient) -> None:
    dynamodb.delete_item(TableName=APP, Key={"leaseKey": {"S": FIRST}})


def model_stuck(dynamodb: DynamoDBClient) -> None:
    batch = {"age_s": 60, "tries": 0, "shards": [FIRST]}
    says(dynamodb, "a", by_shard={FIRST: {"unsettled": 5}}, batches_out=[batch], batch_p99_s=0.1)


def no_replica(dynamodb: DynamoDBClient) -> None:
    outage = {"kind": "model", "part": "model", "reason": "no replica starts", "for_s": 9}
    says(dynamodb, "a", by_shard={FIRST: {"unsettled": 5}}, outages=[outage])


def sink_refused(dynamodb: DynamoDBClient) -> None:
    outage = {"kind": "sink", "part": "s3://b/t", "reason": "AccessDenied", "for_s": 9}
    says(dynamodb, "a", by_shard={FIRST: {"unsettled": 5}}, outages=[outage])


def bisected(dynamodb: DynamoDBClient) -> None:
    batch = {"age_s": 1, "tries": 1, "shards": [FIRST]}
    says(dynamodb, "a", by_shard={FIRST: {"unsettled": 5}}, batches_out=[batch])


def not_begun(dynamodb: DynamoDBClient) -> None:
    says(dynamodb, "a", by_shard={}, unread={FIRST: f"{FIRST} is not read: KCL does not begin"})


def no_new_records(dynamodb: DynamoDBClient) -> None:
    says(dynamodb, "a", by_shard={FIRST: {"unsettled": 0, "lag_s": 0, "idle_s": 60}})


FAULTS: list[tuple[Fault, Kind]] = [
    (no_owner, Kind.NO_OWNER),
    (parent, Kind.PARENT),
    (handoff, Kind.HANDOFF),
    (leader_dead, Kind.LEADER_DEAD),
    (nobody_leads, Kind.LEADER_DEAD),
    (owner_dead, Kind.OWNER_DEAD),
    (max_leases, Kind.MAX_LEASES),
    (no_metric, Kind.NO_METRIC),
    (careful, Kind.BISECTING),
    (no_lease, Kind.NO_LEASE),
    (model_stuck, Kind.MODEL_STUCK),
    (no_replica, Kind.MODEL_STUCK),
    (sink_refused, Kind.SINK_REFUSED),
    (bisected, Kind.BISECTING),
    (not_begun, Kind.NOT_BEGUN),
    (no_new_records, Kind.NO_NEW_RECORDS),
]


@pytest.mark.parametrize(("fault", "kind"), FAULTS, ids=lambda each: getattr(each, "__name__", None))
def test_a_fault_in_the_tables_is_named(
    tables: DynamoDBClient, kinesis: KinesisClient, fault: Fault, kind: Kind
) -> None:
    for worker in ("a", "b"):
        seen_alive(tables, worker)
    lead(tables, "a")
    for shard, owner in zip(SHARDS, ("a", "b", "a"), strict=True):
        put(tables, shard, leaseOwner=owner)
    observer = Observer(tables, kinesis, STREAM, APP)
    looks: list[Snapshot] = [observer.look()]
    assert why(looks) is None
    fault(tables)
    looks += [observer.look() for _ in range(LOOKS)]
    assert why(looks) is kind


def test_what_nothing_explains_is_unknown_once_the_checkpoint_has_stood_still(
    tables: DynamoDBClient, kinesis: KinesisClient
) -> None:
    seen_alive(tables, "a")
    lead(tables, "a")
    for shard in SHARDS:
        put(tables, shard, leaseOwner="a")
    times = iter((0.0, STILL_S - 1, STILL_S + 1))
    began_s = time.time()
    observer = Observer(tables, kinesis, STREAM, APP, clock=lambda: began_s + now)
    looks: list[Snapshot] = []
    for now in times:  # the clock reads it
        seen_alive(tables, "a", seconds_ago=-now)
        worker_notes.write(tables, APP, WorkerNote("a", "", "", began_s + now, {"by_shard": {FIRST: {"unsettled": 5}}}))
        looks.append(observer.look())
        assert why(looks) is (Kind.UNKNOWN if now > STILL_S else None)


def test_every_reason_of_the_closed_set_has_a_fault_here() -> None:
    assert {kind for _, kind in FAULTS} | {Kind.UNKNOWN} == set(Kind)


def why(looks: list[Snapshot]) -> Kind | None:
    status = diagnose(STREAM, looks[-1], looks[:-1])
    found = next(shard.why for shard in status.shards if shard.shard_id == FIRST)
    return found.kind if found is not None else None
