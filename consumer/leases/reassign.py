"""Passes leases from a worker that is dead or leaves to living workers. All calls block.

Each is one conditional write, like KCL's own assign and evict (``DynamoDBLeaseRefresher.assignLease``), so KCL accepts
it: the new owner finds the lease in the table and starts. A write of the old owner that arrives later fails, because
the counter has changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consumer.leases.tables import Item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@dataclass(frozen=True, slots=True)
class OrphanedLease:
    """A lease, and its relation to the worker that is gone.

    Either ``gone`` owns it and no worker drains it, or ``gone`` drains it for ``owner``, or ``gone`` will own it once
    ``drainer`` has drained it. With ``counter``, the lease is passed on only if it has not been renewed since; None if
    the worker is known to be dead.
    """

    shard_id: str
    gone: str
    owner: str
    drainer: str = ""
    counter: int | None = None


def reassign(
    dynamodb: DynamoDBClient, application: str, holdings: Iterable[OrphanedLease], load: Counter[str], max_leases: int
) -> dict[str, str]:
    """Pass leases on. Returns the new owner of each shard that was passed on, "" for none.

    ``load`` has the number of leases of each living worker, and is updated. Workers with the fewest leases come first,
    and none gets more than ``max_leases`` (0: no limit). If no worker may have one more, the lease is left free for the
    next leader. A lease that was drained for another worker goes to that worker. If another worker drains a lease, its
    drain is cut short and the new owner reads at once.
    """
    passed = {}
    for holding in sorted(holdings, key=lambda holding: holding.shard_id):
        new_owner = holding.owner if holding.drainer == holding.gone else _next_owner(load, max_leases)
        if _write(dynamodb, application, holding, new_owner):
            passed[holding.shard_id] = new_owner
            load[new_owner] += 1
    return passed


def _next_owner(load: Counter[str], max_leases: int) -> str:
    """The worker with the fewest leases that may have one more; "" if there is none."""
    able = [worker for worker in load if worker and (not max_leases or load[worker] < max_leases)]
    return min(able, key=lambda worker: (load[worker], worker), default="")


def _write(dynamodb: DynamoDBClient, application: str, holding: OrphanedLease, new_owner: str) -> bool:
    """False if the lease is no longer as it was, or was renewed."""
    values: Item = {":owner": {"S": holding.owner}, ":one": {"N": "1"}}
    update, still_so = "REMOVE leaseOwner", "leaseOwner = :owner"
    if new_owner:
        update = "SET leaseOwner = :new_owner"
        values[":new_owner"] = {"S": new_owner}
    if holding.drainer:
        update += ", checkpointOwner" if not new_owner else " REMOVE checkpointOwner"
        still_so += " AND checkpointOwner = :drainer"
        values[":drainer"] = {"S": holding.drainer}
    else:
        still_so += " AND attribute_not_exists(checkpointOwner)"
    if holding.counter is not None:
        still_so += " AND leaseCounter = :counter"
        values[":counter"] = {"N": str(holding.counter)}
    try:
        dynamodb.update_item(
            TableName=application,
            Key={"leaseKey": {"S": holding.shard_id}},
            UpdateExpression=f"{update} ADD leaseCounter :one, ownerSwitchesSinceCheckpoint :one",
            ConditionExpression=still_so,
            ExpressionAttributeValues=values,
        )
    except dynamodb.exceptions.ConditionalCheckFailedException:
        return False
    return True
