"""Marks leases of shards for which a replay has passed the end of its slice, and deletes a finished replay's tables.

The mark is a separate attribute, which KCL keeps through renewals, checkpoints and changes of owner. All calls block.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from consumer.aws.shards import KnownShard
from consumer.leases.tables import Item, lease_items, text

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

MARK = "boundedDone"

_KEY: Item = {"key": {"S": "PenstockReplay"}}

_BEGINS = frozenset({"TRIM_HORIZON", "AT_TIMESTAMP", "LATEST"})


def mark(dynamodb: DynamoDBClient, application: str, shard_id: str, to_ms: int) -> bool:
    """Note that all records of the shard before ``to_ms`` are checkpointed; false if there is no such lease.

    The lease's counter stays as it is, so that its owner keeps it.
    """
    try:
        dynamodb.update_item(
            TableName=application,
            Key={"leaseKey": {"S": shard_id}},
            UpdateExpression="SET #mark = :to",
            ConditionExpression="attribute_exists(leaseKey)",
            ExpressionAttributeNames={"#mark": MARK},
            ExpressionAttributeValues={":to": {"N": str(to_ms)}},
        )
    except (dynamodb.exceptions.ConditionalCheckFailedException, dynamodb.exceptions.ResourceNotFoundException):
        return False
    return True


def items(dynamodb: DynamoDBClient, application: str) -> dict[str, Item]:
    """The items of the leases, by shard; empty if there is no table."""
    return {text(item, "leaseKey"): item for item in lease_items(dynamodb, application)}


def left(known: Mapping[str, KnownShard], leases: Mapping[str, Item], to_ms: int) -> list[str]:
    """The shards that have not passed ``to_ms``: their leases are neither marked nor at the shard's end. Pure.

    KCL creates the leases of a shard's children before it ends the shard, so a child without a lease is also left.
    Below a marked shard nothing is left: it took records until after ``to_ms``, so the records of its children arrived
    later. They may have leases, since the other parent of a merge can have ended; KCL would never begin them.
    """
    ended = {shard_id for shard_id, lease in leases.items() if text(lease, "checkpoint") == "SHARD_END"}
    marked = {shard_id for shard_id, lease in leases.items() if lease.get(MARK) == {"N": str(to_ms)}}
    unborn = {
        shard_id for shard_id, shard in known.items() if shard_id not in leases and ended.intersection(shard.parents)
    }
    beyond = marked
    while below := {shard_id for shard_id, shard in known.items() if beyond.intersection(shard.parents)} - beyond:
        beyond = beyond | below
    return sorted(((leases.keys() - ended) | unborn) - beyond)


def held_by_others(leases: Mapping[str, Item], worker_id: str) -> Collection[str]:
    """The other workers that own or drain a lease. Pure."""
    owners = {text(lease, name) for lease in leases.values() for name in ("leaseOwner", "checkpointOwner")}
    return owners - {"", worker_id}


def noted(dynamodb: DynamoDBClient, application: str) -> dict[str, str] | None:
    """What the replay is made of, as its first task noted it; None: there is no note."""
    try:
        found = dynamodb.get_item(TableName=f"{application}-CoordinatorState", Key=_KEY, ConsistentRead=True)
    except dynamodb.exceptions.ResourceNotFoundException:
        return None
    said: dict[str, str] = json.loads(found["Item"]["replay"]["S"]) if "Item" in found else {}
    return said or None


def note(dynamodb: DynamoDBClient, application: str, made_of: Mapping[str, str]) -> dict[str, str]:
    """Note what the replay is made of, unless another task has. Returns what is noted then. Its tables exist."""
    try:
        dynamodb.put_item(
            TableName=f"{application}-CoordinatorState",
            Item={**_KEY, "replay": {"S": json.dumps(dict(made_of))}},
            ConditionExpression="attribute_not_exists(#key)",
            ExpressionAttributeNames={"#key": "key"},
        )
    except dynamodb.exceptions.ConditionalCheckFailedException:
        return noted(dynamodb, application) or {}
    return dict(made_of)


def is_untouched(leases: Mapping[str, Item]) -> bool:
    """Whether no worker owns a lease, and none is checkpointed. Pure."""
    return not held_by_others(leases, "") and all(text(lease, "checkpoint") in _BEGINS for lease in leases.values())


def remove_tables(dynamodb: DynamoDBClient, application: str) -> None:
    """Delete an application's tables, the leases last; missing ones are skipped."""
    for name in (f"{application}-WorkerMetricStats", f"{application}-CoordinatorState", application):
        try:
            dynamodb.delete_table(TableName=name)
        except dynamodb.exceptions.ResourceNotFoundException:
            continue
