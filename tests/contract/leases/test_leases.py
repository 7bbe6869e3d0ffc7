"""Reading and releasing KCL's leases, on moto's DynamoDB."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from consumer.leases import leases
from consumer.leases import tables as lease_tables
from pipeline.record import Position
from tests.support.kcl_tables import APP, SHARDS, lead, leader, owners, put, seen_alive

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@pytest.fixture(autouse=True)
def waits_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release ends with a second look; here no JVM changes anything before it."""
    monkeypatch.setattr(leases, "LATE_S", 0.001)


def test_an_application_that_never_ran_has_no_leases(dynamodb: DynamoDBClient) -> None:
    assert leases.read(dynamodb, APP) == []


def test_releasing_frees_only_the_workers_own_leases(tables: DynamoDBClient) -> None:
    for shard, owner in zip(SHARDS, ("me", "other", "me"), strict=True):
        put(tables, shard, leaseOwner=owner)
    assert leases.release(tables, APP, "me") == {SHARDS[0]: "", SHARDS[2]: ""}
    assert owners(tables) == {SHARDS[0]: "", SHARDS[1]: "other", SHARDS[2]: ""}
    assert [lease.counter for lease in leases.read(tables, APP)] == [6, 5, 6]


def test_released_leases_keep_their_checkpoints(tables: DynamoDBClient) -> None:
    put(tables, SHARDS[0], leaseOwner="me")
    leases.release(tables, APP, "me")
    assert [lease.checkpoint for lease in leases.read(tables, APP)] == [Position(42, 1)]


def test_leases_go_to_the_living_those_with_fewest_first(tables: DynamoDBClient) -> None:
    for worker in ("busy", "idle", "me"):
        seen_alive(tables, worker)
    seen_alive(tables, "dead", seconds_ago=60)
    put(tables, "shard-a", leaseOwner="busy")
    put(tables, "shard-b", leaseOwner="busy")
    for shard in SHARDS:
        put(tables, shard, leaseOwner="me")
    assert leases.release(tables, APP, "me") == {SHARDS[0]: "idle", SHARDS[1]: "idle", SHARDS[2]: "busy"}
    assert set(owners(tables).values()) == {"busy", "idle"}


def test_no_worker_is_handed_more_than_its_cap(tables: DynamoDBClient) -> None:
    seen_alive(tables, "other")
    put(tables, SHARDS[0], leaseOwner="other")
    put(tables, SHARDS[1], leaseOwner="me")
    put(tables, SHARDS[2], leaseOwner="me")
    assert leases.release(tables, APP, "me", max_leases=2) == {SHARDS[1]: "other", SHARDS[2]: ""}


def test_a_lease_that_was_being_handed_over_goes_to_its_new_owner(tables: DynamoDBClient) -> None:
    put(tables, SHARDS[0], leaseOwner="next", checkpointOwner="me")
    leases.release(tables, APP, "me")
    (lease,) = leases.read(tables, APP)
    assert (lease.owner, lease.draining_owner, lease.counter) == ("next", "", 6)


def test_a_lease_that_another_worker_drains_for_us_is_passed_on_at_once(tables: DynamoDBClient) -> None:
    """A drain ends with a lease for a worker that is dead, which no worker would take before it expires."""
    seen_alive(tables, "drainer")
    seen_alive(tables, "idle")
    put(tables, SHARDS[0], leaseOwner="me", checkpointOwner="drainer")
    put(tables, SHARDS[1], leaseOwner="drainer")
    assert leases.release(tables, APP, "me") == {SHARDS[0]: "idle"}
    lease = leases.read(tables, APP)[0]
    assert (lease.owner, lease.draining_owner, lease.counter) == ("idle", "", 6)


def test_a_lease_drained_for_us_is_left_free_if_no_worker_may_take_it(tables: DynamoDBClient) -> None:
    put(tables, SHARDS[0], leaseOwner="me", checkpointOwner="other")
    assert leases.release(tables, APP, "me") == {SHARDS[0]: ""}
    (lease,) = leases.read(tables, APP)
    assert (lease.owner, lease.draining_owner, lease.counter) == ("", "", 6)


def test_a_lease_that_is_assigned_while_the_worker_leaves_is_passed_on_too(
    tables: DynamoDBClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader does not know yet, and a drain for us ends between our read and our write."""
    seen_alive(tables, "other")
    put(tables, SHARDS[0], leaseOwner="me", checkpointOwner="other")
    put(tables, SHARDS[1], leaseOwner="other")
    stale = leases.read(tables, APP)
    put(tables, SHARDS[0], leaseOwner="me")
    put(tables, SHARDS[1], leaseOwner="me")
    looks = iter([stale])
    read = leases.read
    monkeypatch.setattr(leases, "read", lambda *arguments: next(looks, None) or read(*arguments))
    leases.release(tables, APP, "me")
    monkeypatch.undo()
    assert owners(tables) == {SHARDS[0]: "other", SHARDS[1]: "other"}


def test_a_lease_taken_in_the_meantime_stays_with_its_new_owner(
    tables: DynamoDBClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tables, SHARDS[0], leaseOwner="me")
    stale = leases.read(tables, APP)
    put(tables, SHARDS[0], leaseOwner="thief")
    monkeypatch.setattr(leases, "read", lambda *arguments: stale)
    assert leases.release(tables, APP, "me") == {}
    monkeypatch.undo()
    assert owners(tables) == {SHARDS[0]: "thief"}


def test_the_leaders_lock_is_released_by_its_holder_alone(tables: DynamoDBClient) -> None:
    lead(tables, "other")
    leases.release(tables, APP, "me")
    assert leader(tables) == "other"
    leases.release(tables, APP, "other")
    assert leader(tables) == ""


def test_the_released_worker_no_longer_counts_as_alive(tables: DynamoDBClient) -> None:
    seen_alive(tables, "me")
    seen_alive(tables, "other")
    leases.release(tables, APP, "me")
    items = tables.scan(TableName=f"{APP}-WorkerMetricStats")["Items"]
    assert [item["wid"]["S"] for item in items] == ["other"]


def test_releasing_twice_or_before_there_is_a_table_is_fine(dynamodb: DynamoDBClient) -> None:
    assert leases.release(dynamodb, APP, "me") == {}
    lease_tables.make_tables(dynamodb, APP)
    put(dynamodb, SHARDS[0], leaseOwner="me")
    assert leases.release(dynamodb, APP, "me") == {SHARDS[0]: ""}
    assert leases.release(dynamodb, APP, "me") == {}


def test_without_a_table_of_the_living_leases_are_left_free(tables: DynamoDBClient) -> None:
    tables.delete_table(TableName=f"{APP}-WorkerMetricStats")
    put(tables, SHARDS[0], leaseOwner="me")
    assert leases.release(tables, APP, "me") == {SHARDS[0]: ""}


def test_items_that_are_not_leases_are_not_read_or_changed(tables: DynamoDBClient) -> None:
    put(tables, "Leader", leaseOwner="me", entityType="LEADER")
    put(tables, SHARDS[0], leaseOwner="me", entityType="LEASE")
    tables.put_item(TableName=APP, Item={"leaseKey": {"S": "odd"}, "leaseOwner": {"S": "me"}})
    assert leases.release(tables, APP, "me") == {SHARDS[0]: ""}
    assert list(owners(tables)) == [SHARDS[0]]


def test_reading_returns_ended_shards_with_parents_and_children(tables: DynamoDBClient) -> None:
    put(tables, SHARDS[0], checkpoint="SHARD_END")
    tables.update_item(
        TableName=APP,
        Key={"leaseKey": {"S": SHARDS[0]}},
        UpdateExpression="SET childShardIds = :c, parentShardId = :p",
        ExpressionAttributeValues={":c": {"SS": [SHARDS[2], SHARDS[1]]}, ":p": {"SS": ["shard-p"]}},
    )
    (lease,) = leases.read(tables, APP)
    assert (lease.ended, lease.checkpoint, lease.sentinel) == (True, None, "SHARD_END")
    assert (lease.parents, lease.children) == (("shard-p",), (SHARDS[1], SHARDS[2]))


def test_changes_of_owner_since_the_last_checkpoint_are_kcls_own_count(tables: DynamoDBClient) -> None:
    put(tables, SHARDS[0], leaseOwner="a")
    tables.update_item(
        TableName=APP,
        Key={"leaseKey": {"S": SHARDS[0]}},
        UpdateExpression="SET ownerSwitchesSinceCheckpoint = :three",
        ExpressionAttributeValues={":three": {"N": "3"}},
    )
    assert leases.switches(tables, APP, SHARDS[0]) == 3
    assert leases.switches(tables, APP, SHARDS[1]) == 0
    assert leases.switches(tables, "no-such-application", SHARDS[0]) == 0
