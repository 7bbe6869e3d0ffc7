"""An application belongs to one stream and starts at one position; on moto's DynamoDB and Kinesis."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from consumer.admin.reset_leases import carry_out, plan
from consumer.leases import tables as lease_tables
from consumer.leases.binding import KEY, Binding, OtherStream, bind, find
from consumer.leases.joining import join
from consumer.leases.seed import seed
from pipeline.errors import RefusedError, UserError
from tests.support.kcl_tables import APP, SHARDS, STREAM, lead, owners, put

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient

MADE_S = 1_795_000_000
NOW = datetime(2026, 11, 23, 8, 0, 0, 999, tzinfo=UTC)
NOW_TEXT = "2026-11-23T08:00:00+00:00"
LATER = NOW + timedelta(hours=1)
LATER_TEXT = "2026-11-23T09:00:00+00:00"


def bound(
    dynamodb: DynamoDBClient,
    kinesis: KinesisClient,
    stream: str = STREAM,
    created_s: int = MADE_S,
    start: str = "TRIM_HORIZON",
    now: datetime = NOW,
) -> Binding | None:
    return bind(dynamodb, kinesis, APP, stream, created_s, start, now)


def test_the_first_worker_binds_and_all_others_find_it(tables: DynamoDBClient, kinesis: KinesisClient) -> None:
    first = bound(tables, kinesis)
    assert first is not None and (first.stream, first.stream_created_s, first.start) == (STREAM, MADE_S, "TRIM_HORIZON")
    assert bound(tables, kinesis, now=LATER) == first == find(tables, APP)


def test_without_tables_there_is_nothing_to_bind(dynamodb: DynamoDBClient, kinesis: KinesisClient) -> None:
    assert bound(dynamodb, kinesis) is None
    lease_tables.make_tables(dynamodb, APP)
    dynamodb.delete_table(TableName=f"{APP}-CoordinatorState")
    assert bound(dynamodb, kinesis) is None


@pytest.mark.parametrize("suffix", ["", "-CoordinatorState", "-WorkerMetricStats"])
def test_a_foreign_table_is_refused_and_nothing_is_created_beside_it(dynamodb: DynamoDBClient, suffix: str) -> None:
    dynamodb.create_table(
        TableName=f"{APP}{suffix}",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    with pytest.raises(
        UserError, match=f'^DynamoDB table "{APP}{suffix}" .* key is id \\(string\\), .* another stream.application$'
    ):
        lease_tables.make_tables(dynamodb, APP)
    assert suffix or dynamodb.list_tables()["TableNames"] == [APP]


@pytest.mark.parametrize(
    ("kind", "sort", "said"),
    [
        ("N", "", r"its key is leaseKey \(number\), not leaseKey \(string\) alone"),
        ("S", "r", r"its key is leaseKey \(string\), r \(string, sort key\), not leaseKey \(string\) alone"),
    ],
)
def test_a_foreign_table_with_the_name_of_kcls_key_is_refused(
    dynamodb: DynamoDBClient, kind: str, sort: str, said: str
) -> None:
    keys: list[Any] = [{"AttributeName": "leaseKey", "KeyType": "HASH"}]
    types: list[Any] = [{"AttributeName": "leaseKey", "AttributeType": kind}]
    if sort:
        keys.append({"AttributeName": sort, "KeyType": "RANGE"})
        types.append({"AttributeName": sort, "AttributeType": "S"})
    dynamodb.create_table(TableName=APP, KeySchema=keys, AttributeDefinitions=types, BillingMode="PAY_PER_REQUEST")
    with pytest.raises(UserError, match=said) as refused:
        joined(dynamodb)
    assert refused.value.exit_code == 2 and "\n" not in str(refused.value)
    assert dynamodb.list_tables()["TableNames"] == [APP]


def test_a_table_of_foreign_items_is_refused_and_unchanged(tables: DynamoDBClient) -> None:
    item = {"leaseKey": {"S": "customer-77"}, "owner": {"S": "bob"}}
    tables.put_item(TableName=APP, Item=item)
    with pytest.raises(UserError, match=r'^DynamoDB table "app" .* "customer-77" has no checkpoint and no leaseCo'):
        joined(tables)
    assert tables.scan(TableName=APP)["Items"] == [item]


def joined(dynamodb: DynamoDBClient) -> None:
    """What a worker does with the tables before its model loads."""
    aws = SimpleNamespace(client=lambda service: dynamodb, ask=lambda what, call: call())
    settings = SimpleNamespace(stream=SimpleNamespace(application=APP), kcl=SimpleNamespace(properties={}))
    join(cast("Any", settings), cast("Any", aws), MADE_S)


def test_a_foreign_item_among_the_leases_is_reported(tables: DynamoDBClient, kinesis: KinesisClient) -> None:
    tables.put_item(TableName=APP, Item={"leaseKey": {"S": "mine"}, "checkpoint": {"S": "TRIM_HORIZON"}})
    with pytest.raises(UserError, match=r'^"mine" in the lease table is not a lease .* another stream.application$'):
        bound(tables, kinesis)


def test_a_second_stream_is_refused_with_the_fix(tables: DynamoDBClient, kinesis: KinesisClient) -> None:
    bound(tables, kinesis)
    with pytest.raises(OtherStream) as refused:
        bound(tables, kinesis, stream="other", created_s=MADE_S + 5)
    said = str(refused.value)
    assert refused.value.exit_code == 2 and "\n" not in said
    assert '"events"' in said and '"other"' in said and "stream.application" in said


def test_a_stream_created_again_is_refused_with_the_fix(tables: DynamoDBClient, kinesis: KinesisClient) -> None:
    bound(tables, kinesis)
    with pytest.raises(OtherStream, match=r"created again .* `penstock leases reset --config FILE --execute"):
        bound(tables, kinesis, created_s=MADE_S + 1)


def test_of_racing_streams_one_wins(tables: DynamoDBClient, kinesis: KinesisClient) -> None:
    def attempt(name: str) -> str:
        try:
            found = bound(tables, kinesis, stream=name)
        except OtherStream:
            return "refused"
        assert found is not None
        return found.stream

    with ThreadPoolExecutor(6) as threads:
        came = list(threads.map(attempt, ["events", "other"] * 3))
    winner = find(tables, APP)
    assert winner is not None and sorted(came) == sorted([winner.stream] * 3 + ["refused"] * 3)


def test_a_binding_made_between_our_look_and_our_write_counts(
    tables: DynamoDBClient, kinesis: KinesisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound(tables, kinesis, stream="other")
    looks = iter([None])
    monkeypatch.setattr("consumer.leases.binding.find", lambda *arguments: next(looks, None) or find(*arguments))
    with pytest.raises(OtherStream, match='belongs to stream "other"'):
        bound(tables, kinesis)


def test_latest_is_one_time_for_every_worker_and_restart(tables: DynamoDBClient, kinesis: KinesisClient) -> None:
    first = bound(tables, kinesis, start="LATEST")
    assert first is not None and first.start == NOW_TEXT
    assert bound(tables, kinesis, start="LATEST", now=LATER) == first


def test_a_lease_table_created_again_gets_a_new_binding_and_its_own_latest(
    tables: DynamoDBClient, kinesis: KinesisClient
) -> None:
    bound(tables, kinesis, start="LATEST")
    tables.delete_table(TableName=APP)
    lease_tables.make_tables(tables, APP)
    again = bound(tables, kinesis, start="LATEST", now=LATER, created_s=MADE_S + 1)
    assert again is not None and (again.start, again.stream_created_s) == (LATER_TEXT, MADE_S + 1)


def test_leases_that_were_there_before_are_bound_if_they_fit(tables: DynamoDBClient, kinesis: KinesisClient) -> None:
    """Leases of KCL 2, for example: without hash keys, and only for some shards."""
    first = kinesis.list_shards(StreamName=STREAM)["Shards"][0]["SequenceNumberRange"]["StartingSequenceNumber"]
    put(tables, SHARDS[0], checkpoint=str(int(first) + 1))
    put(tables, SHARDS[1], checkpoint="TRIM_HORIZON")
    assert bound(tables, kinesis) is not None


@pytest.mark.parametrize(
    ("shard", "changes", "said"),
    [
        ("shardId-000000000003", {"checkpoint": "TRIM_HORIZON"}, "never had"),
        (SHARDS[0], {"checkpoint": "TRIM_HORIZON", "startingHashKey": "7", "endingHashKey": "8"}, "other hash keys"),
    ],
)
def test_leases_that_cannot_be_of_the_stream_are_refused(
    tables: DynamoDBClient, kinesis: KinesisClient, shard: str, changes: dict[str, str], said: str
) -> None:
    put(tables, shard, **changes)
    with pytest.raises(OtherStream, match=f"{shard}.*{said}.*penstock leases reset"):
        bound(tables, kinesis)
    assert find(tables, APP) is None


# -- taking the leases away


def slept(seconds: float) -> None:
    """A worker that changes nothing in the meantime."""
    assert seconds > 10


def test_after_a_reset_the_application_starts_again(tables: DynamoDBClient, kinesis: KinesisClient) -> None:
    bound(tables, kinesis, start="LATEST")
    seed(tables, kinesis, APP, STREAM, NOW_TEXT)
    lead(tables, "kept")
    assert carry_out(tables, plan(tables, APP), 10, slept) == 3
    assert owners(tables) == {} and find(tables, APP) is None
    assert [item["key"]["S"] for item in tables.scan(TableName=f"{APP}-CoordinatorState")["Items"]] == ["Leader"]
    again = bound(tables, kinesis, start="LATEST", now=LATER, created_s=MADE_S + 1)
    assert again is not None and again.start == LATER_TEXT


def test_a_reset_changes_nothing_while_a_lease_is_renewed(tables: DynamoDBClient, kinesis: KinesisClient) -> None:
    before = bound(tables, kinesis)
    put(tables, SHARDS[0], leaseOwner="worker-a")

    def renew(seconds: float) -> None:
        tables.update_item(
            TableName=APP,
            Key={"leaseKey": {"S": SHARDS[0]}},
            UpdateExpression="ADD leaseCounter :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )

    with pytest.raises(RefusedError, match=r"worker-a holds the lease .* Stop every worker first"):
        carry_out(tables, plan(tables, APP), 10, renew)
    assert list(owners(tables)) == [SHARDS[0]] and find(tables, APP) == before


def test_a_lease_that_moves_at_the_last_moment_is_kept(tables: DynamoDBClient, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tables, SHARDS[0], leaseOwner="worker-a")
    planned = plan(tables, APP)
    monkeypatch.setattr("consumer.admin.reset_leases.read", lambda *arguments: planned.leases)
    tables.update_item(
        TableName=APP,
        Key={"leaseKey": {"S": SHARDS[0]}},
        UpdateExpression="ADD leaseCounter :one",
        ExpressionAttributeValues={":one": {"N": "1"}},
    )
    with pytest.raises(RefusedError, match="worker-a holds the lease"):
        carry_out(tables, planned, 10, slept)
    assert list(owners(tables)) == [SHARDS[0]]


def test_there_may_be_nothing_to_reset(dynamodb: DynamoDBClient) -> None:
    assert plan(dynamodb, APP).nothing


def test_the_binding_is_not_a_lease_and_not_an_item_of_kcl(tables: DynamoDBClient, kinesis: KinesisClient) -> None:
    bound(tables, kinesis)
    assert tables.scan(TableName=APP)["Items"] == []
    assert [item["key"]["S"] for item in tables.scan(TableName=f"{APP}-CoordinatorState")["Items"]] == [KEY]
