"""The items that KCL and its workers write into an application's tables."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from consumer.leases import leases

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

APP, STREAM = "app", "events"
SHARDS = ["shardId-000000000000", "shardId-000000000001", "shardId-000000000002"]


def held_by_moto() -> dict[str, Any]:
    """moto's tables, by name."""
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.dynamodb.models import dynamodb_backends

    held: dict[str, Any] = dynamodb_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].tables
    return held


def put(dynamodb: DynamoDBClient, shard: str, **changes: Any) -> None:
    item: dict[str, Any] = {
        "leaseKey": {"S": shard},
        "leaseCounter": {"N": "5"},
        "ownerSwitchesSinceCheckpoint": {"N": "0"},
        "checkpoint": {"S": "42"},
        "checkpointSubSequenceNumber": {"N": "1"},
    }
    dynamodb.put_item(TableName=APP, Item=item | {name: {"S": value} for name, value in changes.items()})


def seen_alive(dynamodb: DynamoDBClient, worker: str, seconds_ago: float = 0) -> None:
    item: dict[str, Any] = {"wid": {"S": worker}, "lut": {"N": str(int(time.time() - seconds_ago))}}
    dynamodb.put_item(TableName=f"{APP}-WorkerMetricStats", Item=item)


def lead(dynamodb: DynamoDBClient, worker: str) -> None:
    item: dict[str, Any] = {"key": {"S": "Leader"}, "ownerName": {"S": worker}}
    dynamodb.put_item(TableName=f"{APP}-CoordinatorState", Item=item)


def leader(dynamodb: DynamoDBClient) -> str:
    found = dynamodb.get_item(TableName=f"{APP}-CoordinatorState", Key={"key": {"S": "Leader"}})
    return found["Item"]["ownerName"]["S"] if "Item" in found else ""


def owners(dynamodb: DynamoDBClient) -> dict[str, str]:
    return {lease.shard_id: lease.owner for lease in leases.read(dynamodb, APP)}
