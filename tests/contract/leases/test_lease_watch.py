"""What a running task finds out about its stream and its leases, on moto's DynamoDB and Kinesis."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from consumer.aws.clients import Aws
from consumer.config.settings import StreamSettings
from consumer.kcl.session_snapshot import SessionSnapshot
from consumer.leases.binding import OtherStream, find
from consumer.leases.expiry import Oldest, missed
from consumer.leases.seed import seed
from consumer.leases.watch import CHECK_S, LeaseWatch
from pipeline.errors import Fatal
from pipeline.metrics import Metrics
from pipeline.record import Position
from tests.support.kcl_tables import APP, SHARDS, STREAM, lead, owners, put

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient

AFTER_S = 100.0
HOUR_MS = 3_600_000


@dataclass(eq=False)
class Session:
    """The part of a shard's session that is needed."""

    shard_id: str
    hears: bool = True
    over: bool = False
    lag_ms: int = 0
    began_after: Position | None = None

    def look(self) -> SessionSnapshot:
        return SessionSnapshot(self.shard_id, None, self.lag_ms, 1e9, 0)

    def lag_at(self, now: float) -> float:
        return self.look().lag_at(now)


class Rig:
    """A task that has every lease of the stream and reads each shard."""

    def __init__(self, dynamodb: DynamoDBClient, kinesis: KinesisClient, start: str = "TRIM_HORIZON") -> None:
        self.dynamodb, self.kinesis = dynamodb, kinesis
        self.metrics = Metrics()
        self.sessions: list[Any] = [Session(shard) for shard in SHARDS]
        self.aws = Aws()
        self.created_s = self.aws.stream_created_s(STREAM)
        stream = StreamSettings(name=STREAM, application=APP, start=start)
        outages, shards = self.metrics.outages, self.metrics.shards
        self.watch = LeaseWatch(stream, self.created_s, "me", AFTER_S, self.aws, outages, shards, lambda: self.sessions)
        seed(dynamodb, kinesis, APP, STREAM, "TRIM_HORIZON")
        lead(dynamodb, "me")
        for shard in SHARDS:
            self.hold(shard)

    def hold(self, shard: str) -> None:
        self.dynamodb.update_item(
            TableName=APP,
            Key={"leaseKey": {"S": shard}},
            UpdateExpression="SET leaseOwner = :me ADD leaseCounter :one",
            ExpressionAttributeValues={":me": {"S": "me"}, ":one": {"N": "1"}},
        )

    def step(self, now: float) -> None:
        """One look, like those of :meth:`LeaseWatch.watch`."""
        try:
            asyncio.run(self.watch.step(now))
        except ClientError as error:
            self.watch._failed(error, now)

    def value(self, metric: str) -> float | None:
        return self.metrics.registry.get_sample_value(metric)


@pytest.fixture
def rig(tables: DynamoDBClient, kinesis: KinesisClient, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return Rig(tables, kinesis)


def test_all_is_well_while_every_shard_is_read(rig: Rig) -> None:
    for now in (0, 50, 100, 150):
        rig.step(now)
    assert (rig.watch.red, rig.watch.unread.unready, rig.metrics.outages.current()) == ({}, None, [])
    bound = find(rig.dynamodb, APP)
    assert bound is not None and (bound.stream, bound.stream_created_s) == (STREAM, rig.created_s)


def test_a_lease_that_somebody_deletes_is_there_again_after_one_look(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.step(0)
    rig.dynamodb.delete_item(TableName=APP, Key={"leaseKey": {"S": SHARDS[1]}})
    with caplog.at_level(logging.WARNING, "leases"):
        rig.step(10)
    assert list(owners(rig.dynamodb)) == SHARDS
    assert f"{SHARDS[1]} had no lease" in caplog.text


def test_a_shard_that_kcl_may_not_read_is_reported_with_the_error_of_kinesis(
    rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.sessions[1].hears = False
    monkeypatch.setattr(rig.aws, "client", denying(rig.aws.client, "get_shard_iterator"))
    with caplog.at_level(logging.WARNING, "leases"):
        for now in (0, 60, 120):
            rig.step(now)
    assert list(rig.watch.red) == [SHARDS[1]]
    assert rig.watch.red[SHARDS[1]].endswith("calling the get_shard_iterator operation: no")
    assert rig.watch.unread.unready == f"{SHARDS[1]}: not read yet"
    assert rig.value("penstock_unread_shards") == 1
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
    rig.sessions[1].hears = True
    rig.step(130)
    assert not rig.watch.red and not rig.watch.unread.unready
    assert rig.value("penstock_unread_shards") == 0


def denying(client: Callable[[str], Any], operation: str) -> Callable[[str], Any]:
    class Denied:
        def __getattr__(self, name: str) -> Any:
            if name == operation:
                return self.refuse
            return getattr(client("kinesis"), name)

        def refuse(self, **request: object) -> None:
            raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, operation)

    return lambda service: Denied() if service == "kinesis" else client(service)


def test_a_deleted_stream_is_reported_and_then_turns_red(rig: Rig) -> None:
    rig.step(0)
    rig.kinesis.delete_stream(StreamName=STREAM)
    rig.step(10)
    (trouble,) = rig.metrics.outages.current()
    assert trouble.reason == f"stream {STREAM} no longer exists" == rig.watch.unread.unready
    assert rig.watch.red == {}
    rig.step(10 + AFTER_S)
    assert "no longer exists" in rig.watch.red["stream"]
    rig.kinesis.create_stream(StreamName=STREAM, ShardCount=3)


def test_a_lease_table_that_is_deleted_ends_the_task_and_is_not_taken_for_a_stream_that_is_gone(rig: Rig) -> None:
    rig.step(0.0)
    rig.dynamodb.delete_table(TableName=f"{APP}-CoordinatorState")
    rig.step(1.0)
    assert rig.watch.red == {} and "no longer exists" not in str(rig.watch.unread.unready)
    rig.dynamodb.delete_table(TableName=APP)
    with pytest.raises(Fatal, match=f'the lease table "{APP}" was deleted. Restore it'):
        rig.step(2.0)


def test_a_stream_created_again_ends_the_task_with_the_fix(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.step(0)
    monkeypatch.setattr(rig.watch, "_created_s", rig.created_s - 60)
    rig.step(10)
    with pytest.raises(OtherStream, match="created again"):
        rig.step(CHECK_S)


def test_an_open_shard_with_an_ended_lease_checks_the_stream_at_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.step(0)
    monkeypatch.setattr(rig.watch, "_created_s", rig.created_s - 60)
    put(rig.dynamodb, SHARDS[0], checkpoint="SHARD_END")
    with pytest.raises(OtherStream, match="created again"):
        rig.step(10)


def test_no_lease_is_created_for_a_stream_created_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.step(0)
    monkeypatch.setattr(rig.watch, "_created_s", rig.created_s - 60)
    rig.dynamodb.delete_item(TableName=APP, Key={"leaseKey": {"S": SHARDS[1]}})
    with pytest.raises(OtherStream):
        rig.step(10)
    assert SHARDS[1] not in owners(rig.dynamodb)


def test_another_start_that_was_fixed_first_ends_the_task(
    tables: DynamoDBClient, kinesis: KinesisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If KCL creates the tables, two first workers may both set LATEST."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    Rig(tables, kinesis, "2026-11-23T08:00:00+00:00").step(0)
    with pytest.raises(Fatal, match="Restart this worker"):
        Rig(tables, kinesis, "2026-11-23T08:00:01+00:00").step(0)


def test_records_that_will_expire_are_reported_before_they_do(rig: Rig) -> None:
    rig.sessions[2].lag_ms = 18 * HOUR_MS
    rig.step(0)
    assert rig.metrics.outages.current() == [] and rig.value("penstock_retention_used_ratio") == 0.75
    rig.sessions[2].lag_ms = 20 * HOUR_MS
    rig.step(10)
    (trouble,) = rig.metrics.outages.current()
    assert trouble.reason.startswith(f"{SHARDS[2]} is 20.0 h behind; the stream retains records for 24 h")
    rig.sessions[2].lag_ms = 0
    rig.step(20)
    assert rig.metrics.outages.current() == []


def test_a_shard_that_expired_unread_is_reported_and_counted(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    known = rig.kinesis.list_shards(StreamName=STREAM)["Shards"]
    rig.sessions = rig.sessions[1:]
    answers = {"Shards": [shard for shard in known if shard["ShardId"] != SHARDS[0]]}
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.ERROR, "leases"):
        patch.setattr(rig.aws.client("kinesis"), "list_shards", lambda **request: answers)
        rig.step(0)
        rig.step(10)
    assert caplog.text.count("expired before it was read to its end") == 1
    assert rig.value("penstock_expired_shards_total") == 1


def test_records_that_expired_after_a_checkpoint_are_reported_once_per_session(
    rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.kinesis.put_record(StreamName=STREAM, Data=b"oldest", PartitionKey="any", ExplicitHashKey="0")
    rig.sessions[0].began_after = Position(-1, 0)
    monkeypatch.setattr("consumer.leases.watch.time.time", lambda: time.time_ns() / 1e9 + 23 * 3600)
    with caplog.at_level(logging.ERROR, "leases"):
        rig.step(0)
        rig.step(10)
    assert caplog.text.count(f"{SHARDS[0]}: an unknown number of records after -1/0 expired before they were read") == 1
    assert rig.value("penstock_expired_shards_total") == 1


@pytest.mark.parametrize(
    ("began_after", "first", "expected"),
    [
        (Position(5, 0), Oldest(7, 0.0), True),
        (Position(7, 0), Oldest(7, 0.0), False),
        (Position(5, 0), Oldest(7, 60_000.0), False),
        (Position(5, 0), None, False),
        (None, Oldest(7, 0.0), False),
    ],
)
def test_records_were_missed_if_the_oldest_is_after_the_checkpoint_at_the_edge_of_retention(
    began_after: Position | None, first: Oldest | None, expected: bool
) -> None:
    assert missed(began_after, first, 86_400.0, 86_000.0) is expected
