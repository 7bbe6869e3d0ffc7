"""A replay's marks on its leases, and the deletion of its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumer.aws.shards import KnownShard
from consumer.leases import bounded
from consumer.leases.leases import read
from tests.support.kcl_tables import APP, SHARDS, put

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TO_MS = 5_000
CHILD = "shardId-000000000003"
KNOWN = {shard_id: KnownShard(shard_id) for shard_id in SHARDS}


def left(dynamodb: DynamoDBClient, *more: KnownShard, to_ms: int = TO_MS) -> list[str]:
    return bounded.left(KNOWN | {shard.shard_id: shard for shard in more}, bounded.items(dynamodb, APP), to_ms)


def test_a_shard_is_left_until_it_is_marked_or_ended(tables: DynamoDBClient) -> None:
    for shard_id in SHARDS:
        put(tables, shard_id, leaseOwner="worker")
    before = {lease.shard_id: lease.counter for lease in read(tables, APP)}
    assert left(tables) == SHARDS
    assert bounded.mark(tables, APP, SHARDS[0], TO_MS)
    put(tables, SHARDS[1], checkpoint="SHARD_END")
    assert left(tables) == [SHARDS[2]]
    assert left(tables, to_ms=TO_MS + 1) == [SHARDS[0], SHARDS[2]]
    assert {lease.shard_id: lease.counter for lease in read(tables, APP)} == before


def test_a_child_of_an_ended_shard_is_left_even_without_a_lease(tables: DynamoDBClient) -> None:
    put(tables, SHARDS[0], checkpoint="SHARD_END")
    child = KnownShard(CHILD, (SHARDS[0],))
    assert left(tables) == []
    assert left(tables, child) == [CHILD]
    put(tables, CHILD)
    bounded.mark(tables, APP, CHILD, TO_MS)
    assert left(tables, child) == []


def test_below_a_marked_shard_nothing_is_left(tables: DynamoDBClient) -> None:
    """A merge: one parent is marked and never ends, the other has ended, so the child has a lease."""
    put(tables, SHARDS[0], checkpoint="SHARD_END")
    put(tables, CHILD)
    put(tables, SHARDS[1])
    assert bounded.mark(tables, APP, SHARDS[1], TO_MS)
    child, below = KnownShard(CHILD, (SHARDS[0], SHARDS[1])), KnownShard("shardId-000000000010", (CHILD,))
    put(tables, below.shard_id)
    assert left(tables, child, below) == []
    assert left(tables, child, below, to_ms=TO_MS + 1) == [SHARDS[1], CHILD, below.shard_id]


def test_a_mark_makes_no_lease(tables: DynamoDBClient) -> None:
    assert not bounded.mark(tables, APP, SHARDS[0], TO_MS)
    assert bounded.items(tables, APP) == {}
    assert not bounded.mark(tables, "no-such-table", SHARDS[0], TO_MS)


@pytest.mark.parametrize(("attribute", "others"), [("leaseOwner", {"b"}), ("checkpointOwner", {"b"})])
def test_other_workers_are_those_that_own_or_drain(tables: DynamoDBClient, attribute: str, others: set[str]) -> None:
    put(tables, SHARDS[0], leaseOwner="a")
    put(tables, SHARDS[1], **{attribute: "b"})
    assert bounded.held_by_others(bounded.items(tables, APP), "a") == others


def test_tables_are_deleted_even_if_some_are_missing(tables: DynamoDBClient) -> None:
    tables.delete_table(TableName=f"{APP}-CoordinatorState")
    bounded.remove_tables(tables, APP)
    bounded.remove_tables(tables, APP)
    assert tables.list_tables()["TableNames"] == []
