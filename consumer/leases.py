"""KCL's tables in DynamoDB: made ready before a first start, left tidy after a last one, and read for ``status``.

The tables are KCL 3's: ``<application>`` (leases), ``<application>-CoordinatorState`` (the leader's lock) and
``<application>-WorkerMetricStats`` (who is alive). What is written here KCL writes alike, by conditions that let
any number of workers race. All calls block; failures of AWS come as botocore's errors.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from consumer.heirs import Holding, pass_on
from consumer.lease_tables import Item, delete_if, lease_items, make_tables, reports, text
from consumer.properties import REPORT_MS, start_time_s
from pipeline.record import Position

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient

log = logging.getLogger("leases")

GENESIS_KEY = "PenstockGenesis"
"""An item beside the leader's lock: says which lease table was seeded, and keeps a second worker from doing it."""

TABLE_SHAPE = re.compile(
    "leaseTableDeletionProtectionEnabled"
    "|(workerMetrics|coordinatorState)"
    "(BillingMode|ReadCapacity|WriteCapacity|PointInTimeRecoveryEnabled|DeletionProtectionEnabled|Tags)"
)
"""Properties that KCL heeds only where it makes a table itself."""

TURN_KEY = "PenstockTurn"
"""An item beside the leader's lock: who may reach for it, and until when."""

TURN_S, TURN_POLL_S = 6.0, 0.25

SEEDED_AT_MOST = 99
"""Leases and the genesis item fit into one transaction (AWS allows 100 items); more are left to KCL."""

LATE_S = 0.5
"""What a living leader had already decided on when a worker left, or was being drained for it, has come by then."""

ALIVE_S = 2 * REPORT_MS / 1000
"""KCL's own measure: a worker that has missed two reports is given no leases."""


@dataclass(frozen=True, slots=True)
class Lease:
    """One shard's lease. ``checkpoint`` is None where ``sentinel`` says why: TRIM_HORIZON, LATEST, SHARD_END …"""

    shard_id: str
    owner: str
    counter: int
    checkpoint: Position | None
    sentinel: str
    parents: tuple[str, ...]
    children: tuple[str, ...]
    draining_owner: str
    """Who still drains the shard before ``owner`` may begin; empty when nobody."""

    @property
    def holder(self) -> str:
        """Who renews it: the owner, or who still drains for the owner."""
        return self.draining_owner or self.owner

    @property
    def ended(self) -> bool:
        """All of the shard is read and checkpointed."""
        return self.sentinel == "SHARD_END"

    def left_by(self, worker_id: str, counter: int | None = None) -> Holding:
        """To be passed on from a worker that is gone; ``counter``: only if that is still the lease's."""
        return Holding(self.shard_id, worker_id, self.owner, self.draining_owner, counter)


def read(dynamodb: DynamoDBClient, application: str) -> list[Lease]:
    """Every lease, by shard; empty if there is no table yet."""
    return sorted(map(_lease, lease_items(dynamodb, application)), key=lambda lease: lease.shard_id)


def switches(dynamodb: DynamoDBClient, application: str, shard_id: str) -> int:
    """How often the lease has changed hands since its last checkpoint; 0 where that cannot be found out."""
    try:
        found = dynamodb.get_item(TableName=application, Key={"leaseKey": {"S": shard_id}}, ConsistentRead=True)
    except (BotoCoreError, ClientError) as error:
        log.warning("%s: its lease cannot be read: %s", shard_id, error)
        return 0
    return int(found.get("Item", {}).get("ownerSwitchesSinceCheckpoint", {"N": "0"})["N"])


def seed(
    dynamodb: DynamoDBClient,
    kinesis: KinesisClient,
    application: str,
    stream: str,
    start: str,
    extra: Collection[str] = (),
) -> int:
    """Make a new application's tables and leases, so that its first worker need not wait for KCL to do it.

    KCL sleeps a random 1 to 30 seconds over an empty lease table, and polls every 10 seconds for tables and the
    index that it has made one after the other. The leases are those that KCL would make
    (``HierarchicalShardSyncer``): shards that are open at ``start``, each at its sentinel; children are KCL's to find.

    A table with leases in it is left alone. Any number of workers may call this at once: all leases are written in
    one transaction, once in a table's life. Where there is no leader yet it returns when it is this worker's turn to
    start, see :func:`take_turn`. Returns how many leases this call wrote.

    ``extra`` are the names in ``[kcl.properties]``: where one of them shapes a table, KCL is left to make them.
    """
    if any(TABLE_SHAPE.fullmatch(name) for name in extra):
        return 0
    make_tables(dynamodb, application)
    seeded = 0 if any(lease_items(dynamodb, application)) else _seed(dynamodb, kinesis, application, stream, start)
    take_turn(dynamodb, application, uuid.uuid4().hex)
    return seeded


def take_turn(dynamodb: DynamoDBClient, application: str, token: str) -> bool:
    """Return when a JVM may start: at once where there is a leader, else one worker after the other.

    Two workers of KCL 3.1.3 that find the leader's lock free at the same moment both reach for it, and the one that
    misses sleeps for 30 seconds within ``DynamoDBLockBasedLeaderDecider.isLeader``, which its whole scheduler waits
    for. So a worker that finds no leader takes a turn of ``TURN_S``, and the others wait for a leader or for theirs.
    Returns whether this worker took a turn; nothing depends on it but how soon shards are read.
    """
    deadline = time.monotonic() + 2 * TURN_S
    table = f"{application}-CoordinatorState"
    try:
        while time.monotonic() < deadline and not _has_leader(dynamodb, table):
            if _took_turn(dynamodb, table, token, time.time()):
                return True
            time.sleep(TURN_POLL_S)
    except dynamodb.exceptions.ResourceNotFoundException:
        return False  # KCL will make the table
    return False


def release(dynamodb: DynamoDBClient, application: str, worker_id: str, max_leases: int = 0) -> dict[str, str]:
    """Pass on what a worker held, once its JVM is dead. Returns its shards with their new owners, "" for none.

    Leases go to the workers that are alive, those with fewest first and none beyond ``max_leases`` (0: no cap);
    where nobody is, they are left free for the next leader. Without this a lease is not taken for ``failover_ms``,
    the leader's lock not for 120 seconds, a living worker does not look for the lock for 30, and the leader keeps
    assigning to a dead worker while its last sign of life is young. Every write is conditional on still being the
    worker's, so this is safe at any time and may be repeated.
    """
    me: Item = {"S": worker_id}
    delete_if(dynamodb, f"{application}-WorkerMetricStats", {"wid": me}, wid=me)
    passed = _pass_on(dynamodb, application, worker_id, max_leases)
    if _alive(dynamodb, application, time.time()):
        time.sleep(LATE_S)
        passed |= _pass_on(dynamodb, application, worker_id, max_leases)
    delete_if(dynamodb, f"{application}-CoordinatorState", {"key": {"S": "Leader"}}, ownerName=me)
    return passed


def _pass_on(dynamodb: DynamoDBClient, application: str, worker_id: str, max_leases: int) -> dict[str, str]:
    found = read(dynamodb, application)
    held = [lease.left_by(worker_id) for lease in found if worker_id in {lease.owner, lease.draining_owner}]
    alive = _alive(dynamodb, application, time.time()) - {worker_id} if held else set()
    return pass_on(dynamodb, application, held, load_of(found, alive), max_leases)


def load_of(found: Iterable[Lease], workers: Collection[str]) -> Counter[str]:
    """How many leases each of these workers has, or will have when they are drained for it."""
    load = Counter(dict.fromkeys(workers, 0))
    load.update(lease.owner for lease in found if lease.owner in workers)
    return load


def _seed(dynamodb: DynamoDBClient, kinesis: KinesisClient, application: str, stream: str, start: str) -> int:
    shards = _open_shards(kinesis, stream, start)
    if not shards or len(shards) > SEEDED_AT_MOST:
        return 0
    sentinel = start if start in {"TRIM_HORIZON", "LATEST"} else "AT_TIMESTAMP"
    leases = [_put_new(application, _new_lease(shard, sentinel)) for shard in shards]
    try:
        dynamodb.transact_write_items(TransactItems=[_genesis(dynamodb, application), *leases])
    except dynamodb.exceptions.TransactionCanceledException:
        return 0  # another worker was first
    return len(leases)


def _open_shards(kinesis: KinesisClient, stream: str, start: str) -> list[Any]:
    """Those that KCL's ``EmptyLeaseTableSynchronizer`` begins with."""
    shard_filter: Item = {"Type": {"TRIM_HORIZON": "AT_TRIM_HORIZON", "LATEST": "AT_LATEST"}.get(start, "AT_TIMESTAMP")}
    if (seconds := start_time_s(start)) is not None:
        shard_filter["Timestamp"] = seconds
    answer = kinesis.list_shards(StreamName=stream, ShardFilter=shard_filter)  # type: ignore[arg-type]
    shards = list(answer["Shards"])
    while token := answer.get("NextToken"):
        answer = kinesis.list_shards(NextToken=token)
        shards += answer["Shards"]
    return shards


def _new_lease(shard: Any, sentinel: str) -> Item:
    """As ``DynamoDBLeaseSerializer`` writes a lease that nobody has held."""
    parents = [shard[name] for name in ("ParentShardId", "AdjacentParentShardId") if shard.get(name)]
    lease: Item = {
        "leaseKey": {"S": shard["ShardId"]},
        "leaseCounter": {"N": "0"},
        "ownerSwitchesSinceCheckpoint": {"N": "0"},
        "checkpoint": {"S": sentinel},
        "checkpointSubSequenceNumber": {"N": "0"},
        "startingHashKey": {"S": shard["HashKeyRange"]["StartingHashKey"]},
        "endingHashKey": {"S": shard["HashKeyRange"]["EndingHashKey"]},
    }
    return lease | ({"parentShardId": {"SS": parents}} if parents else {})


def _put_new(table: str, item: Item) -> Any:
    return {"Put": {"TableName": table, "Item": item, "ConditionExpression": "attribute_not_exists(leaseKey)"}}


def _genesis(dynamodb: DynamoDBClient, application: str) -> Any:
    """Refused if this very lease table has been seeded; a table made anew is another table."""
    created = dynamodb.describe_table(TableName=application)["Table"]["CreationDateTime"]
    table_id = f"{created.timestamp():.6f}"
    put = {
        "TableName": f"{application}-CoordinatorState",
        "Item": {"key": {"S": GENESIS_KEY}, "leaseTable": {"S": table_id}},
        "ConditionExpression": "attribute_not_exists(#key) OR leaseTable <> :table",
        "ExpressionAttributeNames": {"#key": "key"},
        "ExpressionAttributeValues": {":table": {"S": table_id}},
    }
    return {"Put": put}


def _has_leader(dynamodb: DynamoDBClient, table: str) -> bool:
    found = dynamodb.get_item(TableName=table, Key={"key": {"S": "Leader"}}, ConsistentRead=True)
    return "Item" in found and "isReleased" not in found["Item"]


def _took_turn(dynamodb: DynamoDBClient, table: str, token: str, now_s: float) -> bool:
    item: Item = {"key": {"S": TURN_KEY}, "token": {"S": token}, "endsAt": {"N": f"{now_s + TURN_S:.3f}"}}
    try:
        dynamodb.put_item(
            TableName=table,
            Item=item,
            ConditionExpression="attribute_not_exists(#key) OR endsAt < :now OR #token = :token",
            ExpressionAttributeNames={"#key": "key", "#token": "token"},
            ExpressionAttributeValues={":now": {"N": f"{now_s:.3f}"}, ":token": {"S": token}},
        )
    except dynamodb.exceptions.ConditionalCheckFailedException:
        return False
    return True


def _alive(dynamodb: DynamoDBClient, application: str, now_s: float) -> set[str]:
    """Workers that have given a sign of life of late; none where KCL keeps no table of them."""
    return {worker for worker, at_s in reports(dynamodb, application).items() if at_s >= now_s - ALIVE_S}


def _lease(item: Item) -> Lease:
    checkpoint = text(item, "checkpoint")
    position = None
    if checkpoint.isdigit():
        position = Position(int(checkpoint), int(item["checkpointSubSequenceNumber"]["N"]))
    return Lease(
        shard_id=text(item, "leaseKey"),
        owner=text(item, "leaseOwner"),
        counter=int(item["leaseCounter"]["N"]),
        checkpoint=position,
        sentinel="" if position else checkpoint,
        parents=tuple(sorted(item.get("parentShardId", {}).get("SS", ()))),
        children=tuple(sorted(item.get("childShardIds", {}).get("SS", ()))),
        draining_owner=text(item, "checkpointOwner"),
    )
