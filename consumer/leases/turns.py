"""Lets workers start one after another while an application has no leader. All calls block."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from consumer.leases.tables import Item
from pipeline.retry import Retry

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TURN_KEY = "PenstockTurn"
"""The key of an item beside the leader's lock: which worker may take the lock, and until when."""

TURN_S, TURN_POLL_S = 6.0, 0.25


def take_turn(dynamodb: DynamoDBClient, application: str, token: str) -> bool:
    """Return when a JVM may start: at once if there is a leader, else one worker after the other.

    If two workers of KCL 3.1.3 find the leader's lock free at the same moment, both try to take it, and the one that
    fails sleeps for 30 seconds within ``DynamoDBLockBasedLeaderDecider.isLeader``, which blocks its whole scheduler. So
    a worker that finds no leader takes a turn of ``TURN_S``, and the others wait for a leader or for their turn.
    Returns whether this worker took a turn; only the time until shards are read depends on it.
    """
    table = f"{application}-CoordinatorState"
    took = False

    def may_start() -> bool:
        nonlocal took
        if _has_leader(dynamodb, table):
            return True
        took = _took_turn(dynamodb, table, token, time.time())
        return took

    with suppress(dynamodb.exceptions.ResourceNotFoundException):  # KCL will create the table
        Retry(TURN_POLL_S, TURN_POLL_S, within_s=2 * TURN_S).until_blocking(may_start, sleep=time.sleep)
    return took


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
