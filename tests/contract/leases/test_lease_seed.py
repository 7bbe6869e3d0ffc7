"""Leases for shards that would not be read otherwise, on moto's DynamoDB and Kinesis."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from consumer.leases import leases
from consumer.leases import seed as lease_seed
from consumer.leases import tables as lease_tables
from consumer.leases.leases import Lease
from consumer.leases.seed import seed
from pipeline.errors import Fatal
from tests.support.kcl_tables import APP, SHARDS, STREAM, owners, put

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient

TIME = "2020-01-01T00:00:00+00:00"


def test_a_new_application_has_a_lease_per_open_shard(tables: DynamoDBClient, kinesis: KinesisClient) -> None:
    began_s = time.time()
    assert seed(tables, kinesis, APP, STREAM, "TRIM_HORIZON") == tuple(SHARDS)
    for shard, lease in zip(SHARDS, leases.read(tables, APP), strict=True):
        assert lease == Lease(shard, "", lease.counter, None, "TRIM_HORIZON", (), (), "", lease.hash_keys)
        assert began_s - 1 <= lease.counter <= time.time()
    item = tables.get_item(TableName=APP, Key={"leaseKey": {"S": SHARDS[0]}})["Item"]
    assert item["startingHashKey"] == {"S": "0"}
    assert item["ownerSwitchesSinceCheckpoint"] == {"N": "0"}


def test_leases_begin_where_the_application_does(tables: DynamoDBClient, kinesis: KinesisClient) -> None:
    seed(tables, kinesis, APP, STREAM, TIME)
    assert {lease.sentinel for lease in leases.read(tables, APP)} == {"AT_TIMESTAMP"}


def test_the_three_tables_are_made_with_the_owners_index(dynamodb: DynamoDBClient) -> None:
    lease_tables.make_tables(dynamodb, APP)
    tables = {name: dynamodb.describe_table(TableName=name)["Table"] for name in dynamodb.list_tables()["TableNames"]}
    keys = {name: [key["AttributeName"] for key in table["KeySchema"]] for name, table in tables.items()}
    assert keys == {APP: ["leaseKey"], f"{APP}-CoordinatorState": ["key"], f"{APP}-WorkerMetricStats": ["wid"]}
    assert {table["BillingModeSummary"]["BillingMode"] for table in tables.values()} == {"PAY_PER_REQUEST"}
    (index,) = tables[APP]["GlobalSecondaryIndexes"]
    assert index["IndexName"] == "LeaseOwnerToLeaseKeyIndex"
    assert [key["AttributeName"] for key in index["KeySchema"]] == ["leaseOwner", "leaseKey"]


def test_seeding_again_changes_nothing(tables: DynamoDBClient, kinesis: KinesisClient) -> None:
    seed(tables, kinesis, APP, STREAM, "TRIM_HORIZON")
    put(tables, SHARDS[0], leaseOwner="worker")
    before = leases.read(tables, APP)
    assert seed(tables, kinesis, APP, STREAM, TIME) == ()
    assert leases.read(tables, APP) == before


@pytest.mark.parametrize("gone", [SHARDS[:1], SHARDS])
def test_leases_that_somebody_deleted_are_made_again(
    tables: DynamoDBClient, kinesis: KinesisClient, gone: list[str]
) -> None:
    seed(tables, kinesis, APP, STREAM, "TRIM_HORIZON")
    for shard in gone:
        tables.delete_item(TableName=APP, Key={"leaseKey": {"S": shard}})
    assert seed(tables, kinesis, APP, STREAM, "TRIM_HORIZON") == tuple(gone)
    assert list(owners(tables)) == SHARDS


def test_a_childs_lease_is_its_parents_to_make(tables: DynamoDBClient, kinesis: KinesisClient) -> None:
    seed(tables, kinesis, APP, STREAM, "TRIM_HORIZON")
    kinesis.split_shard(StreamName=STREAM, ShardToSplit=SHARDS[0], NewStartingHashKey="1000")
    assert seed(tables, kinesis, APP, STREAM, "TRIM_HORIZON") == ()
    put(tables, SHARDS[0], checkpoint="SHARD_END")
    assert len(seed(tables, kinesis, APP, STREAM, "TRIM_HORIZON")) == 2
    children = [lease for lease in leases.read(tables, APP) if lease.parents]
    assert [lease.parents for lease in children] == [(SHARDS[0],), (SHARDS[0],)]


def test_racing_workers_make_each_lease_once(tables: DynamoDBClient, kinesis: KinesisClient) -> None:
    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(seed, tables, kinesis, APP, STREAM, "TRIM_HORIZON") for _ in range(4)]
        made = [shard for call in calls for shard in call.result()]
    assert sorted(made) == SHARDS
    assert list(owners(tables)) == SHARDS


def test_a_worker_that_comes_late_to_the_race_changes_no_lease(
    tables: DynamoDBClient, kinesis: KinesisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that found the table empty, and was overtaken."""
    put(tables, SHARDS[1], leaseOwner="worker")
    monkeypatch.setattr(lease_seed, "read", lambda *arguments: [])
    assert seed(tables, kinesis, APP, STREAM, "TRIM_HORIZON") == (SHARDS[0], SHARDS[2])
    monkeypatch.undo()
    assert owners(tables)[SHARDS[1]] == "worker"


def test_a_table_that_never_gets_ready_ends_the_task(dynamodb: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_tables, "_table_status", lambda *arguments: "CREATING")
    monkeypatch.setattr(lease_tables, "TABLE_READY_S", 0.0)
    with pytest.raises(Fatal, match="CREATING after 0 s"):
        lease_tables.make_tables(dynamodb, APP)
