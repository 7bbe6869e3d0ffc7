"""Both layouts of KCL's tables, read from moto's DynamoDB."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from consumer.aws.clients import Aws
from consumer.leases import leases, worker_notes
from consumer.leases.joining import join
from consumer.leases.state import NO_TABLES, ONE_TABLE, THREE_TABLES, read_state
from consumer.leases.worker_notes import WorkerNote, WorkerNoteBook
from pipeline.errors import UserError
from tests.support import kcl_layouts
from tests.support.kcl_tables import APP, STREAM

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient


def put_all(dynamodb: DynamoDBClient, table: str, items: list[dict[str, Any]]) -> None:
    for item in items:
        dynamodb.put_item(TableName=table, Item=item)


def test_no_table(dynamodb: DynamoDBClient) -> None:
    state = read_state(dynamodb, APP)
    assert (state.layout, state.leases) == (NO_TABLES, ())


def test_three_tables(tables: DynamoDBClient) -> None:
    for suffix, items in zip(("", "-WorkerMetricStats", "-CoordinatorState"), kcl_layouts.three_tables(), strict=True):
        put_all(tables, f"{APP}{suffix}", items)
    state = read_state(tables, APP)
    assert state.layout == THREE_TABLES
    assert list(state.leases) == leases.read(tables, APP)
    assert set(state.workers) == {"a", "b"}


def make_one_table(dynamodb: DynamoDBClient) -> None:
    dynamodb.create_table(
        TableName=APP,
        KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    put_all(dynamodb, APP, kcl_layouts.one_table())


def test_one_table_without_the_others(dynamodb: DynamoDBClient) -> None:
    make_one_table(dynamodb)
    state = read_state(dynamodb, APP)
    assert state.layout == ONE_TABLE
    assert list(state.leases) == leases.read(dynamodb, APP)
    assert len(state.leases) == 3
    assert (state.migration.table, state.leader and state.leader.worker) == ("COMPLETE", "a")


def test_a_worker_does_not_join_the_single_table_of_kcl_3_5(
    dynamodb: DynamoDBClient, kinesis: KinesisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables of its own would be the worst: KCL 3.5 would take the application for one with three tables."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    make_one_table(dynamodb)
    settings: Any = SimpleNamespace(
        stream=SimpleNamespace(application=APP, name=STREAM, start="LATEST"), kcl=SimpleNamespace(properties={})
    )
    with pytest.raises(UserError, match=f'lease table "{APP}" also holds the leader.* Use another stream.application'):
        join(settings, Aws(), 1)
    assert dynamodb.list_tables()["TableNames"] == [APP]


def test_more_leases_than_a_page_holds(tables: DynamoDBClient) -> None:
    filler = {"S": "x" * 300_000}
    (item, *_) = kcl_layouts.leases()
    put_all(tables, APP, [{**item, "leaseKey": {"S": f"shardId-{n:012d}"}, "filler": filler} for n in range(8)])
    assert len(tables.scan(TableName=APP)["Items"]) < 8
    assert len(read_state(tables, APP).leases) == 8


def test_a_notebook_clears_up_after_the_dead_and_writes_nothing_once_it_has_left(tables: DynamoDBClient) -> None:
    worker_notes.write(tables, APP, WorkerNote("long dead", "", "", 12.0, {}))
    worker_notes.write(tables, APP, WorkerNote("living", "", "", time.time(), {}))
    book = WorkerNoteBook(lambda: tables, APP, "me")
    book.write("http://10.0.0.1:8080", {"queue": 1})
    notes = read_state(tables, APP).notes
    assert set(notes) == {"living", "me"}
    assert (notes["me"].url, notes["me"].stats) == ("http://10.0.0.1:8080", {"queue": 1})
    book.leave()
    book.write("http://10.0.0.1:8080", {})
    assert set(read_state(tables, APP).notes) == {"living"}


def test_a_notebook_without_tables_does_not_fail(dynamodb: DynamoDBClient) -> None:
    book = WorkerNoteBook(lambda: dynamodb, APP, "me")
    book.write("", {})
    book.leave()
    assert dynamodb.list_tables()["TableNames"] == []


def test_a_worker_writes_its_note_and_takes_it_away(tables: DynamoDBClient) -> None:
    note = WorkerNote("w", "http://127.0.0.1:1", "host", 12.0, {"shards": [1]})
    worker_notes.write(tables, APP, note)
    assert read_state(tables, APP).notes == {"w": note}
    worker_notes.forget(tables, APP, ["w"])
    assert read_state(tables, APP).notes == {}
