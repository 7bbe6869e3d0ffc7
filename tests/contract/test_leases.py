"""Seeding, releasing and reading KCL's tables, on moto's DynamoDB and Kinesis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto import mock_aws

from consumer import lease_tables, leases
from consumer.leases import Lease
from pipeline.errors import Fatal
from pipeline.record import Position

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient

APP, STREAM = "app", "events"
SHARDS = ["shardId-000000000000", "shardId-000000000001", "shardId-000000000002"]


@pytest.fixture(scope="module")
def clients() -> Iterator[tuple[DynamoDBClient, KinesisClient]]:
    with pytest.MonkeyPatch.context() as environment, mock_aws():
        environment.delenv("AWS_ENDPOINT_URL", raising=False)
        yield boto3.client("dynamodb", region_name="us-east-1"), boto3.client("kinesis", region_name="us-east-1")


@pytest.fixture
def dynamodb(clients: tuple[DynamoDBClient, KinesisClient]) -> Iterator[DynamoDBClient]:
    """Without any table."""
    yield clients[0]
    for name in clients[0].list_tables()["TableNames"]:
        clients[0].delete_table(TableName=name)


@pytest.fixture
def kinesis(clients: tuple[DynamoDBClient, KinesisClient]) -> Iterator[KinesisClient]:
    """With one stream, of three shards."""
    clients[1].create_stream(StreamName=STREAM, ShardCount=3)
    yield clients[1]
    clients[1].delete_stream(StreamName=STREAM)


@pytest.fixture(autouse=True)
def waits_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeding ends with a turn, and releasing with a second look; here no JVM does anything in it."""
    monkeypatch.setattr(leases, "LATE_S", 0.001)
    monkeypatch.setattr(leases, "TURN_S", 0.01)
    monkeypatch.setattr(leases, "TURN_POLL_S", 0.001)


@pytest.fixture
def tables(dynamodb: DynamoDBClient) -> DynamoDBClient:
    """An application's tables without leases."""
    lease_tables.make_tables(dynamodb, APP)
    return dynamodb


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


def test_an_application_that_never_ran_has_no_leases(dynamodb: DynamoDBClient) -> None:
    assert leases.read(dynamodb, APP) == []


def test_seeding_ends_with_a_turn(dynamodb: DynamoDBClient, kinesis: KinesisClient) -> None:
    leases.seed(dynamodb, kinesis, APP, STREAM, "TRIM_HORIZON")
    states = dynamodb.scan(TableName=f"{APP}-CoordinatorState")["Items"]
    assert {state["key"]["S"] for state in states} == {"PenstockGenesis", "PenstockTurn"}


def test_seeding_makes_a_lease_per_open_shard_as_kcl_would(dynamodb: DynamoDBClient, kinesis: KinesisClient) -> None:
    assert leases.seed(dynamodb, kinesis, APP, STREAM, "TRIM_HORIZON") == 3
    assert leases.read(dynamodb, APP) == [Lease(shard, "", 0, None, "TRIM_HORIZON", (), (), "") for shard in SHARDS]
    item = dynamodb.get_item(TableName=APP, Key={"leaseKey": {"S": SHARDS[0]}})["Item"]
    assert item["startingHashKey"] == {"S": "0"}
    assert item["ownerSwitchesSinceCheckpoint"] == {"N": "0"}


@pytest.mark.parametrize(("start", "sentinel"), [("LATEST", "LATEST"), ("2020-01-01T00:00:00Z", "AT_TIMESTAMP")])
def test_seeding_begins_where_the_stream_is_to_be_read_from(
    dynamodb: DynamoDBClient, kinesis: KinesisClient, start: str, sentinel: str
) -> None:
    leases.seed(dynamodb, kinesis, APP, STREAM, start)
    assert {lease.sentinel for lease in leases.read(dynamodb, APP)} == {sentinel}


def test_seeding_makes_the_three_tables_with_the_owners_index(dynamodb: DynamoDBClient, kinesis: KinesisClient) -> None:
    leases.seed(dynamodb, kinesis, APP, STREAM, "TRIM_HORIZON")
    tables = {name: dynamodb.describe_table(TableName=name)["Table"] for name in dynamodb.list_tables()["TableNames"]}
    keys = {name: [key["AttributeName"] for key in table["KeySchema"]] for name, table in tables.items()}
    assert keys == {APP: ["leaseKey"], f"{APP}-CoordinatorState": ["key"], f"{APP}-WorkerMetricStats": ["wid"]}
    assert {table["BillingModeSummary"]["BillingMode"] for table in tables.values()} == {"PAY_PER_REQUEST"}
    (index,) = tables[APP]["GlobalSecondaryIndexes"]
    assert index["IndexName"] == "LeaseOwnerToLeaseKeyIndex"
    assert [key["AttributeName"] for key in index["KeySchema"]] == ["leaseOwner", "leaseKey"]


def test_seeding_again_changes_nothing(dynamodb: DynamoDBClient, kinesis: KinesisClient) -> None:
    leases.seed(dynamodb, kinesis, APP, STREAM, "TRIM_HORIZON")
    put(dynamodb, SHARDS[0], leaseOwner="worker")
    before = leases.read(dynamodb, APP)
    assert leases.seed(dynamodb, kinesis, APP, STREAM, "LATEST") == 0
    assert leases.read(dynamodb, APP) == before


def test_a_table_is_seeded_once_in_its_life(dynamodb: DynamoDBClient, kinesis: KinesisClient) -> None:
    """All leases gone means that someone took them away: making leases again is KCL's to decide."""
    leases.seed(dynamodb, kinesis, APP, STREAM, "TRIM_HORIZON")
    for shard in SHARDS:
        dynamodb.delete_item(TableName=APP, Key={"leaseKey": {"S": shard}})
    assert leases.seed(dynamodb, kinesis, APP, STREAM, "TRIM_HORIZON") == 0


def test_a_lease_table_made_anew_is_seeded_anew(dynamodb: DynamoDBClient, kinesis: KinesisClient) -> None:
    leases.seed(dynamodb, kinesis, APP, STREAM, "TRIM_HORIZON")
    dynamodb.delete_table(TableName=APP)
    assert leases.seed(dynamodb, kinesis, APP, STREAM, "LATEST") == 3


def test_racing_workers_seed_once_between_them(dynamodb: DynamoDBClient, kinesis: KinesisClient) -> None:
    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(leases.seed, dynamodb, kinesis, APP, STREAM, "TRIM_HORIZON") for _ in range(4)]
        written = [call.result() for call in calls]
    assert sorted(written) == [0, 0, 0, 3]
    assert list(owners(dynamodb)) == SHARDS


def test_a_worker_that_comes_late_to_the_race_writes_no_lease_of_its_own(
    dynamodb: DynamoDBClient, kinesis: KinesisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It found the table empty, was overtaken, and now sees other shards: all or nothing."""
    leases.seed(dynamodb, kinesis, APP, STREAM, "LATEST")
    monkeypatch.setattr(leases, "lease_items", lambda *arguments: iter(()))
    kinesis.split_shard(StreamName=STREAM, ShardToSplit=SHARDS[0], NewStartingHashKey="1000")
    assert leases.seed(dynamodb, kinesis, APP, STREAM, "LATEST") == 0
    monkeypatch.undo()
    assert list(owners(dynamodb)) == SHARDS


def test_more_shards_than_one_transaction_takes_are_left_to_kcl(
    dynamodb: DynamoDBClient, kinesis: KinesisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "SEEDED_AT_MOST", 2)
    assert leases.seed(dynamodb, kinesis, APP, STREAM, "TRIM_HORIZON") == 0
    assert leases.read(dynamodb, APP) == []


@pytest.mark.parametrize("name", ["leaseTableDeletionProtectionEnabled", "workerMetricsTags"])
def test_tables_that_a_property_shapes_are_left_to_kcl(
    dynamodb: DynamoDBClient, kinesis: KinesisClient, name: str
) -> None:
    assert leases.seed(dynamodb, kinesis, APP, STREAM, "TRIM_HORIZON", extra=[name]) == 0
    assert dynamodb.list_tables()["TableNames"] == []


def test_a_table_that_never_gets_ready_ends_the_task(
    dynamodb: DynamoDBClient, kinesis: KinesisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_tables, "_table_status", lambda *arguments: "CREATING")
    monkeypatch.setattr(lease_tables, "TABLE_READY_S", 0.0)
    with pytest.raises(Fatal, match="CREATING after 0 s"):
        leases.seed(dynamodb, kinesis, APP, STREAM, "TRIM_HORIZON")


def test_where_there_is_a_leader_nobody_waits_for_a_turn(tables: DynamoDBClient) -> None:
    lead(tables, "other")
    assert not leases.take_turn(tables, APP, "me")


def test_without_a_leader_one_takes_a_turn_and_the_other_waits_for_the_leader(
    tables: DynamoDBClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "TURN_S", 60.0)
    assert leases.take_turn(tables, APP, "first")
    monkeypatch.setattr("time.sleep", lambda seconds: lead(tables, "first"))
    assert not leases.take_turn(tables, APP, "second")


def test_a_turn_that_came_to_nothing_ends(tables: DynamoDBClient) -> None:
    assert leases._took_turn(tables, f"{APP}-CoordinatorState", "first", time.time() - 60)
    assert leases.take_turn(tables, APP, "second")


def test_nobody_waits_for_a_turn_for_ever(tables: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert leases._took_turn(tables, f"{APP}-CoordinatorState", "first", time.time() + 60)
    assert not leases.take_turn(tables, APP, "second")


def test_without_tables_there_are_no_turns(dynamodb: DynamoDBClient) -> None:
    assert not leases.take_turn(dynamodb, APP, "me")


def test_releasing_frees_what_is_the_workers_and_nothing_else(tables: DynamoDBClient) -> None:
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


def test_a_lease_that_another_worker_drains_for_us_goes_to_an_heir_at_once(tables: DynamoDBClient) -> None:
    """Its drain ends with a lease for a worker that is gone, which nobody would take before it expires."""
    seen_alive(tables, "drainer")
    seen_alive(tables, "idle")
    put(tables, SHARDS[0], leaseOwner="me", checkpointOwner="drainer")
    put(tables, SHARDS[1], leaseOwner="drainer")
    assert leases.release(tables, APP, "me") == {SHARDS[0]: "idle"}
    lease = leases.read(tables, APP)[0]
    assert (lease.owner, lease.draining_owner, lease.counter) == ("idle", "", 6)


def test_a_lease_that_another_worker_drains_for_us_is_free_where_nobody_may_take_it(tables: DynamoDBClient) -> None:
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


def test_what_is_no_lease_is_neither_read_nor_touched(tables: DynamoDBClient) -> None:
    put(tables, "Leader", leaseOwner="me", entityType="LEADER")
    put(tables, SHARDS[0], leaseOwner="me", entityType="LEASE")
    tables.put_item(TableName=APP, Item={"leaseKey": {"S": "odd"}, "leaseOwner": {"S": "me"}})
    assert leases.release(tables, APP, "me") == {SHARDS[0]: ""}
    assert list(owners(tables)) == [SHARDS[0]]


def test_reading_tells_ended_shards_their_parents_and_children(tables: DynamoDBClient) -> None:
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
