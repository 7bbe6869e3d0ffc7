"""Taking over from a dead leader on moto's DynamoDB: with races, with refused writes, and while a leader lives."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError, EndpointConnectionError

from consumer.leases import handoffs, leader_watch, leases, tables
from consumer.leases.reassign import OrphanedLease
from consumer.leases.takeover import LeaderObservation, LeaderWatch, Takeover
from tests.support.kcl_tables import APP, held_by_moto

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SHARDS = ["shard-1", "shard-2", "shard-3", "shard-4"]


@pytest.fixture
def dynamodb(clients: tuple[DynamoDBClient, Any], emptied: dict[str, Any]) -> Iterator[DynamoDBClient]:
    """Four leases, two of them the leader's; the leader's lock; the reports of all workers."""
    client = clients[0]
    held_by_moto().update(copy.deepcopy(emptied))
    for shard, owner in zip(SHARDS, ("leader", "leader", "a", "b"), strict=True):
        put_lease(client, shard, owner)
    lock(client, "leader", "v1")
    for worker in ("leader", "a", "b"):
        report(client, worker, 1000)
    yield client
    held_by_moto().clear()


def put_lease(dynamodb: DynamoDBClient, shard: str, owner: str, counter: int = 5) -> None:
    item: dict[str, Any] = {
        "leaseKey": {"S": shard},
        "leaseOwner": {"S": owner},
        "leaseCounter": {"N": str(counter)},
        "checkpoint": {"S": "42"},
        "checkpointSubSequenceNumber": {"N": "0"},
    }
    dynamodb.put_item(TableName=APP, Item=item)


def lock(dynamodb: DynamoDBClient, owner: str, version: str, **more: Any) -> None:
    item = {"key": {"S": "Leader"}, "ownerName": {"S": owner}, "recordVersionNumber": {"S": version}, **more}
    dynamodb.put_item(TableName=f"{APP}-CoordinatorState", Item=item)


def report(dynamodb: DynamoDBClient, worker: str, at: int) -> None:
    item: dict[str, Any] = {"wid": {"S": worker}, "lut": {"N": str(at)}}
    dynamodb.put_item(TableName=f"{APP}-WorkerMetricStats", Item=item)


def owners(dynamodb: DynamoDBClient) -> dict[str, str]:
    return {lease.shard_id: lease.owner for lease in leases.read(dynamodb, APP)}


def counters(dynamodb: DynamoDBClient) -> list[int]:
    return [lease.counter for lease in leases.read(dynamodb, APP)]


def leader(dynamodb: DynamoDBClient) -> str:
    return leader_watch.observe(dynamodb, APP, close=False).leader


def takeover() -> Takeover:
    """The decision of a living worker that has seen no change of the fixture's tables."""
    holdings = (
        OrphanedLease(SHARDS[0], "leader", "leader", counter=5),
        OrphanedLease(SHARDS[1], "leader", "leader", counter=5),
    )
    return Takeover("leader", "v1", 1000, holdings, Counter({"a": 1, "b": 1}), 20.0)


def test_a_glance_sees_the_leader_and_its_report_alone(dynamodb: DynamoDBClient) -> None:
    look = leader_watch.observe(dynamodb, APP, close=False)
    assert (look.leader, look.version, look.reports, look.leases) == ("leader", "v1", {"leader": 1000}, None)
    assert look.began_s <= look.ended_s


def test_a_close_look_sees_every_report_and_lease(dynamodb: DynamoDBClient) -> None:
    look = leader_watch.observe(dynamodb, APP, close=True)
    assert look.reports == {"leader": 1000, "a": 1000, "b": 1000}
    assert look.leases is not None
    assert {shard: lease.owner for shard, lease in look.leases.items()} == owners(dynamodb)


def test_a_released_lock_has_no_owner(dynamodb: DynamoDBClient) -> None:
    lock(dynamodb, "leader", "v1", isReleased={"S": "1"})
    assert leader(dynamodb) == ""


@pytest.mark.parametrize("close", [True, False])
def test_before_there_are_tables_there_is_nothing_to_see(clients: tuple[DynamoDBClient, Any], close: bool) -> None:
    look = leader_watch.observe(clients[0], "never-ran", close=close)
    assert (look.leader, look.version, look.reports, look.leases) == ("", "", {}, {} if close else None)


def test_a_dead_leaders_leases_go_to_the_living_and_its_lock_is_free(dynamodb: DynamoDBClient) -> None:
    passed = leader_watch.take_over(dynamodb, APP, takeover(), max_leases=0)
    assert passed == {SHARDS[0]: "a", SHARDS[1]: "b"}
    assert owners(dynamodb) == {SHARDS[0]: "a", SHARDS[1]: "b", SHARDS[2]: "a", SHARDS[3]: "b"}
    assert counters(dynamodb) == [6, 6, 5, 5]
    assert leader(dynamodb) == ""
    assert tables.reports(dynamodb, APP) == {"a": 1000, "b": 1000}


def test_no_survivor_is_given_more_than_its_cap(dynamodb: DynamoDBClient) -> None:
    assert leader_watch.take_over(dynamodb, APP, takeover(), max_leases=1) == {SHARDS[0]: "", SHARDS[1]: ""}
    assert owners(dynamodb) == {SHARDS[0]: "", SHARDS[1]: "", SHARDS[2]: "a", SHARDS[3]: "b"}


def test_of_racing_survivors_each_lease_is_passed_on_by_one(
    dynamodb: DynamoDBClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers race between calls. moto runs in this process, and does not support two calls at once."""
    turn, call = threading.Lock(), getattr(BaseClient, "_make_api_call")  # noqa: B009  # untyped

    def one_at_a_time(client: BaseClient, operation: str, request: Any) -> Any:
        with turn:
            return call(client, operation, request)

    monkeypatch.setattr(BaseClient, "_make_api_call", one_at_a_time)
    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(leader_watch.take_over, dynamodb, APP, takeover(), 0) for _ in range(4)]
        passed = [shard for call in calls for shard in call.result()]
    assert sorted(passed) == SHARDS[:2]
    assert counters(dynamodb) == [6, 6, 5, 5]


def test_a_leader_that_renewed_a_lease_in_between_keeps_it_and_its_lock(dynamodb: DynamoDBClient) -> None:
    decided = takeover()
    put_lease(dynamodb, SHARDS[0], "leader", counter=6)
    assert leader_watch.take_over(dynamodb, APP, decided, max_leases=0) == {SHARDS[1]: "a"}
    assert owners(dynamodb)[SHARDS[0]] == "leader"
    assert leader(dynamodb) == "leader"
    assert "leader" in tables.reports(dynamodb, APP)


def test_a_leader_whose_heart_beat_in_between_keeps_its_lock(dynamodb: DynamoDBClient) -> None:
    decided = replace(takeover(), holdings=())
    lock(dynamodb, "leader", "v2")
    assert leader_watch.take_over(dynamodb, APP, decided, max_leases=0) == {}
    assert leader(dynamodb) == "leader"


def test_a_new_leader_in_between_keeps_its_lock(dynamodb: DynamoDBClient) -> None:
    decided = takeover()
    lock(dynamodb, "a", "v1")
    leader_watch.take_over(dynamodb, APP, decided, max_leases=0)
    assert leader(dynamodb) == "a"


def test_a_leader_that_reported_in_between_keeps_its_report(dynamodb: DynamoDBClient) -> None:
    decided = takeover()
    report(dynamodb, "leader", 1005)
    leader_watch.take_over(dynamodb, APP, decided, max_leases=0)
    assert tables.reports(dynamodb, APP)["leader"] == 1005


def test_a_zombies_writes_are_refused_once_its_leases_are_passed_on(dynamodb: DynamoDBClient) -> None:
    """KCL's renewal and checkpoint are conditional on the counter that it knows."""
    leader_watch.take_over(dynamodb, APP, takeover(), max_leases=0)
    with pytest.raises(dynamodb.exceptions.ConditionalCheckFailedException):
        dynamodb.update_item(
            TableName=APP,
            Key={"leaseKey": {"S": SHARDS[0]}},
            UpdateExpression="SET leaseCounter = :next",
            ConditionExpression="leaseCounter = :known",
            ExpressionAttributeValues={":next": {"N": "6"}, ":known": {"N": "5"}},
        )


class Hurried(LeaderWatch):
    """Decides at once. ``seen`` is set after ``looks`` looks."""

    def __init__(self, looks: int) -> None:
        super().__init__("a", failover_s=10, report_s=5)
        self.seen = threading.Event()
        self._looks = looks

    def look(self, look: LeaderObservation) -> Takeover | None:
        self._looks -= 1
        if self._looks <= 0:
            self.seen.set()
        return takeover() if look.leader == "leader" else None


def watched(dynamodb: DynamoDBClient, looks: int) -> None:
    """Run the watch for this many looks."""

    async def run() -> None:
        watch = Hurried(looks)
        task = asyncio.create_task(
            leader_watch.watch(dynamodb, APP, watch, 0, retry=replace(leader_watch.LOOK, first_s=0.001))
        )
        assert await asyncio.to_thread(watch.seen.wait, 20)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader_watch, "GLANCE_S", 0.001)


@pytest.mark.usefixtures("hasty")
def test_the_watch_carries_out_decisions_and_continues(dynamodb: DynamoDBClient) -> None:
    watched(dynamodb, looks=5)
    assert owners(dynamodb)[SHARDS[0]] == "a"
    assert leader(dynamodb) == ""


@pytest.mark.usefixtures("hasty")
def test_a_failure_is_logged_and_tried_again(
    dynamodb: DynamoDBClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unreachable = EndpointConnectionError(endpoint_url="http://nowhere")
    slowed = ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow down"}}, "GetItem")
    broken = iter([unreachable, slowed])
    observe = leader_watch.observe

    def sometimes(*arguments: Any, close: bool) -> LeaderObservation:
        for error in broken:
            raise error
        return observe(*arguments, close=close)

    monkeypatch.setattr(leader_watch, "observe", sometimes)
    watched(dynamodb, looks=1)
    said = [record.getMessage().split(": ")[-1] for record in caplog.records[:2]]
    assert said == ['"http://nowhere"', "slow down"]


def test_a_handoff_that_kcl_has_forgotten_goes_to_its_new_owner_and_to_no_other(dynamodb: DynamoDBClient) -> None:
    put_lease(dynamodb, "shard-1", "a")
    key = {"leaseKey": {"S": "shard-1"}}
    drains: Any = {":drainer": {"S": "b"}}
    dynamodb.update_item(
        TableName=APP, Key=key, UpdateExpression="SET checkpointOwner = :drainer", ExpressionAttributeValues=drains
    )
    handoffs.end(dynamodb, APP, [OrphanedLease("shard-1", "b", "c", drainer="b")])
    assert leases.read(dynamodb, APP)[0].draining_owner == "b"
    handoffs.end(dynamodb, APP, [OrphanedLease("shard-1", "b", "a", drainer="b")])
    lease = leases.read(dynamodb, APP)[0]
    assert (lease.owner, lease.draining_owner, lease.counter) == ("a", "", 6)
