"""KCL's tables in DynamoDB: creates them as KCL does, and reads their items."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pipeline.errors import Fatal, UserError
from pipeline.retry import Retry

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

OWNER_INDEX = "LeaseOwnerToLeaseKeyIndex"
TABLE_READY_S = 120.0
FIRST_POLL_S, LAST_POLL_S = 0.05, 1.0

Item = dict[str, Any]

LEASE_ATTRIBUTES = frozenset({"checkpoint", "leaseCounter"})
"""Attributes that every release of KCL writes into each lease."""

TYPES = {"S": "string", "N": "number", "B": "binary"}
ANOTHER = "Use another stream.application"

TABLE_SHAPE = re.compile(
    "leaseTableDeletionProtectionEnabled"
    "|(workerMetrics|coordinatorState)"
    "(BillingMode|ReadCapacity|WriteCapacity|PointInTimeRecoveryEnabled|DeletionProtectionEnabled|Tags)"
)
"""Properties that only take effect if KCL creates the tables itself."""


def shaped(names: Collection[str]) -> bool:
    """Whether one of these properties configures a table, so that KCL must create the tables."""
    return any(TABLE_SHAPE.fullmatch(name) for name in names)


def make_tables(dynamodb: DynamoDBClient, application: str) -> None:
    """Create all three tables at once, with the index; KCL would add the index later, which takes minutes on AWS.

    :raises UserError: a table with one of these names is not KCL's. If that is the lease table, nothing is created.
    """
    made_at(dynamodb, application)
    index = {
        "IndexName": OWNER_INDEX,
        "KeySchema": _key("leaseOwner", "leaseKey"),
        "Projection": {"ProjectionType": "KEYS_ONLY"},
    }
    tables: list[Item] = [
        {
            "TableName": application,
            "KeySchema": _key("leaseKey"),
            "AttributeDefinitions": _strings("leaseKey", "leaseOwner"),
            "GlobalSecondaryIndexes": [index],
        },
        {
            "TableName": f"{application}-CoordinatorState",
            "KeySchema": _key("key"),
            "AttributeDefinitions": _strings("key"),
        },
        {
            "TableName": f"{application}-WorkerMetricStats",
            "KeySchema": _key("wid"),
            "AttributeDefinitions": _strings("wid"),
        },
    ]
    with ThreadPoolExecutor(len(tables)) as threads:
        list(threads.map(lambda table: _make_table(dynamodb, table), tables))


def lease_items(dynamodb: DynamoDBClient, application: str) -> Iterator[Item]:
    """The items of the lease table that are leases: newer releases of KCL keep other items there with ``entityType``.

    None if there is no table.
    """
    return filter(is_lease, items(dynamodb, application) or ())


def items(dynamodb: DynamoDBClient, table: str) -> list[Item] | None:
    """Every item of a table, read consistently, page by page; None if there is no such table."""
    scan = dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    try:
        return [dict(item) for page in scan for item in page["Items"]]
    except dynamodb.exceptions.ResourceNotFoundException:
        return None


def is_lease(item: Item) -> bool:
    """Whether an item of the lease table is a lease; in older releases all items are, without ``entityType``."""
    return "checkpoint" in item and item.get("entityType", {"S": "LEASE"}) == {"S": "LEASE"}


def reports(dynamodb: DynamoDBClient, application: str) -> dict[str, int]:
    """The last report (``lut``) of each worker, in epoch seconds by its own clock.

    None if there is no table of them.
    """
    found = items(dynamodb, f"{application}-WorkerMetricStats") or []
    return {text(item, "wid"): int(item["lut"]["N"]) for item in found if "lut" in item}


def delete_if(dynamodb: DynamoDBClient, table: str, key: Item, **still: Item) -> bool:
    """Delete an item if its attributes are ``still`` these; false if they are not, or if there is no item."""
    try:
        dynamodb.delete_item(
            TableName=table,
            Key=key,
            ConditionExpression=" AND ".join(f"{name} = :{name}" for name in still),
            ExpressionAttributeValues={f":{name}": value for name, value in still.items()},
        )
    except (dynamodb.exceptions.ConditionalCheckFailedException, dynamodb.exceptions.ResourceNotFoundException):
        return False
    return True


def leader(dynamodb: DynamoDBClient, application: str) -> str:
    """The worker that has the leader's lock; empty if none has."""
    key: Item = {"key": {"S": "Leader"}}
    try:
        found = dynamodb.get_item(TableName=f"{application}-CoordinatorState", Key=key, ConsistentRead=True)
    except dynamodb.exceptions.ResourceNotFoundException:
        return ""
    item = dict(found.get("Item", {}))
    return "" if "isReleased" in item else text(item, "ownerName")


def made_at(dynamodb: DynamoDBClient, table: str) -> str | None:
    """The creation time of a lease table, which tells it from an earlier one of its name; None if there is none.

    :raises UserError: the table of this name holds no leases.
    """
    try:
        found = dynamodb.describe_table(TableName=table)["Table"]
    except dynamodb.exceptions.ResourceNotFoundException:
        return None
    _refuse_foreign(dict(found), _key("leaseKey"))
    return f"{found['CreationDateTime'].timestamp():.6f}"


def has_index(dynamodb: DynamoDBClient, application: str) -> bool:
    """Whether there is a lease table with KCL's index, so that no task makes or changes a table."""
    try:
        table = dynamodb.describe_table(TableName=application)["Table"]
    except dynamodb.exceptions.ResourceNotFoundException:
        return False
    return OWNER_INDEX in {index["IndexName"] for index in table.get("GlobalSecondaryIndexes", ())}


def text(item: Item, name: str) -> str:
    """A string attribute; empty if the item does not have it."""
    return str(item.get(name, {}).get("S", ""))


def number(item: Item, name: str) -> float | None:
    """A numeric attribute; None if the item does not have it."""
    value = item.get(name, {}).get("N")
    return None if value is None else float(value)


def _make_table(dynamodb: DynamoDBClient, table: Item) -> None:
    """Return when the table is active."""
    status = ""

    def active() -> bool:
        nonlocal status
        status = _table_status(dynamodb, table["TableName"], table["KeySchema"])
        if status == "ABSENT":
            _create(dynamodb, table)
            status = _table_status(dynamodb, table["TableName"], table["KeySchema"])
        return status == "ACTIVE"

    if not Retry(FIRST_POLL_S, LAST_POLL_S, within_s=TABLE_READY_S).until_blocking(active):
        raise Fatal(f"table {table['TableName']} is {status} after {TABLE_READY_S:.0f} s")


def _create(dynamodb: DynamoDBClient, table: Item) -> None:
    try:
        dynamodb.create_table(**table, BillingMode="PAY_PER_REQUEST")
    except dynamodb.exceptions.ResourceInUseException:
        return  # another worker was first


def _table_status(dynamodb: DynamoDBClient, name: str, key: list[dict[str, str]]) -> str:
    """ACTIVE only if all of its indexes are; KCL adds an index that is missing."""
    try:
        table = dynamodb.describe_table(TableName=name)["Table"]
    except dynamodb.exceptions.ResourceNotFoundException:
        return "ABSENT"
    _refuse_foreign(dict(table), key)
    statuses = {index["IndexStatus"] for index in table.get("GlobalSecondaryIndexes", [])} | {table["TableStatus"]}
    return "ACTIVE" if statuses == {"ACTIVE"} else ", ".join(sorted(statuses - {"ACTIVE"}))


def _refuse_foreign(table: Item, key: list[dict[str, str]]) -> None:
    """Check the key and its type. ``table``: DynamoDB's description; ``key``: that of KCL's table."""
    types = {part["AttributeName"]: part["AttributeType"] for part in table.get("AttributeDefinitions", ())}
    found = [
        (part["AttributeName"], types.get(part["AttributeName"], "S"), part["KeyType"]) for part in table["KeySchema"]
    ]
    if found != [(part["AttributeName"], "S", part["KeyType"]) for part in key]:
        raise UserError(
            f'DynamoDB table "{table["TableName"]}" does not belong to KCL: its key is '
            f"{', '.join(map(_part, found))}, not {key[0]['AttributeName']} (string) alone. {ANOTHER}"
        )


def refuse_foreign_items(table: str, found: Iterable[Item]) -> None:
    """Check that the items of a lease table look like KCL's: an ``entityType``, or a lease's attributes. Pure.

    :raises UserError: for the first one that does not, with its key.
    """
    for item in found:
        if "entityType" not in item and not item.keys() & LEASE_ATTRIBUTES:
            raise UserError(
                f'DynamoDB table "{table}" does not belong to KCL: its item "{text(item, "leaseKey")}" has no '
                f"{' and no '.join(sorted(LEASE_ATTRIBUTES))}. {ANOTHER}"
            )


def _part(part: tuple[str, str, str]) -> str:
    name, kind, place = part
    return f"{name} ({TYPES.get(kind, kind)}{', sort key' if place == 'RANGE' else ''})"


def _key(partition: str, sort: str = "") -> list[dict[str, str]]:
    names = [(partition, "HASH")] + ([(sort, "RANGE")] if sort else [])
    return [{"AttributeName": name, "KeyType": kind} for name, kind in names]


def _strings(*names: str) -> list[dict[str, str]]:
    return [{"AttributeName": name, "AttributeType": "S"} for name in names]
