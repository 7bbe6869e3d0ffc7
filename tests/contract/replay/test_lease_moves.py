"""Leases that are moved and restored in DynamoDB: the same table afterwards, and no write to a lease that a worker has
changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from moto import mock_aws

from consumer.admin.replay import lease_writes, undo
from consumer.admin.replay.carry_out import AGAIN_S, LeaseTable
from consumer.admin.replay.lease_writes import AT_ONCE, LEAP, PARK
from consumer.admin.replay.rewind import Move, Moves, back_to, checkpoint_of, to_latest
from consumer.admin.replay.undo import Export, back_to_file, to_remove
from consumer.aws.shards import KnownShard
from consumer.leases import tables
from consumer.leases.leases import Lease
from consumer.leases.seed import new_lease
from consumer.local import moto_speed
from pipeline.errors import RefusedError, UserError
from pipeline.record import LAST_SUB, Position
from tests.support.lineages import Stream, cases

APP = "app"
FAILOVER_S = 10.0


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as environment, mock_aws():
        environment.delenv("AWS_ENDPOINT_URL", raising=False)
        moto_speed.improve()
        made = boto3.client("dynamodb", region_name="us-east-1")
        tables.make_tables(made, APP)
        yield made


class World:
    """``slept`` is called during waits."""

    def __init__(self, dynamodb: Any) -> None:
        self.dynamodb = dynamodb
        self.waits: list[float] = []
        self.slept: Callable[[], object] = lambda: None
        self.table = LeaseTable(dynamodb, APP, failover_s=FAILOVER_S, sleep=self._sleep)
        self._write([{"DeleteRequest": {"Key": {"leaseKey": item["leaseKey"]}}} for item in self.items().values()])

    def put(self, shard: KnownShard, checkpoint: object, counter: int = 5, **more: str) -> None:
        self._write([{"PutRequest": {"Item": self.item(shard, checkpoint, counter, more)}}])

    def put_all(self, leases: Iterable[tuple[KnownShard, object]], **more: str) -> None:
        self._write([{"PutRequest": {"Item": self.item(shard, at, 5, more)}} for shard, at in leases])

    @staticmethod
    def item(shard: KnownShard, checkpoint: object, counter: int, more: Mapping[str, str]) -> dict[str, Any]:
        item = new_lease(shard, str(checkpoint), counter) | {name: {"S": value} for name, value in more.items()}
        if isinstance(checkpoint, Position):
            item |= {"checkpoint": {"S": str(checkpoint.sequence)}, "checkpointSubSequenceNumber": {"N": "0"}}
        return item

    def _write(self, requests: list[dict[str, Any]]) -> None:
        for at in range(0, len(requests), 25):
            self.dynamodb.batch_write_item(RequestItems={APP: requests[at : at + 25]})

    def items(self) -> dict[str, Any]:
        found = self.dynamodb.scan(TableName=APP, ConsistentRead=True)["Items"]
        return {item["leaseKey"]["S"]: item for item in found}

    def renew(self, shard_id: str) -> None:
        """A write of the lease's worker: conditional on the counter that the worker knows."""
        self.dynamodb.update_item(
            TableName=APP,
            Key={"leaseKey": {"S": shard_id}},
            UpdateExpression="ADD leaseCounter :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )

    def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.slept()


def shards(count: int) -> dict[str, KnownShard]:
    ids = [f"shardId-{number:012d}" for number in range(count)]
    return {shard_id: KnownShard(shard_id, (), True, ("0", "9")) for shard_id in ids}


def without_counter(items: Mapping[str, Any]) -> dict[str, Any]:
    return {shard_id: {k: v for k, v in item.items() if k != "leaseCounter"} for shard_id, item in items.items()}


def export(leases: Mapping[str, Lease], moves: Moves, *, forward: bool = False) -> Export:
    made = tuple(move.shard_id for move in moves.moves if move.now is None)
    return Export(APP, "events", 1, "now", {each: dict(lease.raw) for each, lease in leases.items()}, made, forward)


@pytest.mark.parametrize("forward", [False, True])
def test_plan_and_undo_are_the_same_table(dynamodb: Any, forward: bool, tmp_path: Path) -> None:
    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(cases())
    def of(case: tuple[Stream, dict[str, Lease], int]) -> None:
        stream, begun, moment = case
        world = World(dynamodb)
        known = ((stream.shards[shard_id], checkpoint_of(lease)) for shard_id, lease in begun.items())
        world.put_all(known, pendingCheckpoint="12")
        before, leases = world.items(), world.table.read()
        if forward:
            moves = to_latest(stream.shards, leases, stream.facts(10**9))
        else:
            moves = back_to(stream.shards, leases, stream.facts(moment), moment_ms=moment, start_ms=-1)
        world.table.offline(lease_writes.moves(APP, moves.moves, stream.shards, leases, 1.8e9))
        moved = world.table.read()
        for move in moves.moves:
            assert checkpoint_of(moved[move.shard_id]) == move.then
            assert "pendingCheckpoint" not in moved[move.shard_id].raw

        path = tmp_path / "undo.json"
        undo.write(path, export(leases, moves, forward=forward), again=True)
        told = undo.read(path, APP, "events", 1)
        back = back_to_file(told, moved)
        writes = [lease_writes.restore(APP, moved[move.shard_id], told.leases[move.shard_id]) for move in back.moves]
        writes += [lease_writes.remove(APP, moved[shard_id]) for shard_id in to_remove(told, moved)]
        world.table.offline(writes)
        assert without_counter(world.items()) == without_counter(before)
        counters = {shard_id: int(item["leaseCounter"]["N"]) for shard_id, item in world.items().items()}
        touched = {move.shard_id for move in moves.moves}
        assert all(counters[each] == 5 + 2 * LEAP * (each in touched) for each in counters)

    of()


def test_a_worker_at_work_is_refused(dynamodb: Any) -> None:
    world, known = World(dynamodb), shards(2)
    for shard in known.values():
        world.put(shard, Position(50, 0), leaseOwner="worker")
    leases = world.table.read()
    world.slept = lambda: world.renew("shardId-000000000001")
    with pytest.raises(RefusedError, match="worker holds the lease of shardId-000000000001"):
        world.table.must_be_idle(leases)
    assert world.waits == [FAILOVER_S + 2]


def test_the_leases_of_a_dead_worker_are_moved_and_have_no_owner(dynamodb: Any) -> None:
    world, known = World(dynamodb), shards(2)
    for shard in known.values():
        world.put(shard, Position(50, 0), leaseOwner="dead", checkpointOwner="other")
    leases = world.table.read()
    world.table.must_be_idle(leases)
    world.table.offline(lease_writes.moves(APP, _moves(known), known, leases, 1.8e9))
    for lease in world.table.read().values():
        assert (lease.owner, lease.draining_owner, lease.counter) == ("", "", 5 + LEAP)
        assert lease.checkpoint == Position(9, LAST_SUB)


def test_a_lease_that_somebody_takes_meanwhile_stops_the_whole_transaction(dynamodb: Any) -> None:
    world, known = World(dynamodb), shards(2)
    for shard in known.values():
        world.put(shard, Position(50, 0))
    leases = world.table.read()
    writes = lease_writes.moves(APP, _moves(known), known, leases, 1.8e9)
    world.put(known["shardId-000000000000"], Position(50, 0), leaseOwner="new")
    with pytest.raises(RefusedError, match="a worker has started"):
        world.table.offline(writes)
    assert {item["checkpoint"]["S"] for item in world.items().values()} == {"50"}


def test_online_leases_are_parked_until_workers_have_noticed_then_moved(dynamodb: Any) -> None:
    world, known = World(dynamodb), shards(2)
    for shard in known.values():
        world.put(shard, Position(50, 0), leaseOwner="worker")
    parked: list[set[str]] = []
    world.slept = lambda: parked.append({item["leaseOwner"]["S"] for item in world.items().values()})
    world.table.online(
        lambda leases: leases, lambda leases: lease_writes.moves(APP, _moves(known), known, leases, 1.8e9)
    )
    assert sum(world.waits) >= FAILOVER_S + 1
    assert all(len(each) == 1 and min(each).startswith(PARK) for each in parked)
    for lease in world.table.read().values():
        assert (lease.owner, lease.checkpoint) == ("", Position(9, LAST_SUB))
        assert lease.counter > 5 + 2 * LEAP


def test_a_renewal_in_between_only_delays_the_parking(dynamodb: Any) -> None:
    world, known = World(dynamodb), shards(1)
    world.put(known["shardId-000000000000"], Position(50, 0), leaseOwner="worker")
    read, renewals = world.table.read, iter([True, True, False])

    def read_then_renewed() -> dict[str, Lease]:
        leases = read()
        if next(renewals, False):
            world.renew("shardId-000000000000")
        return leases

    world.table.read = read_then_renewed  # type: ignore[method-assign]
    world.table.online(
        lambda leases: leases, lambda leases: lease_writes.moves(APP, _moves(known), known, leases, 1.8e9)
    )
    assert world.waits[:2] == [AGAIN_S, AGAIN_S]
    assert world.table.read()["shardId-000000000000"].checkpoint == Position(9, LAST_SUB)


def test_a_parked_lease_that_is_taken_away_stops_it_and_the_others_are_free(dynamodb: Any) -> None:
    world, known = World(dynamodb), shards(2)
    for shard in known.values():
        world.put(shard, Position(50, 0), leaseOwner="worker")
    world.slept = lambda: world.put(known["shardId-000000000000"], Position(50, 0), 999, leaseOwner="thief")
    with pytest.raises(RefusedError, match="nothing was moved"):
        world.table.online(lambda leases: leases, lambda leases: [])
    leases = world.table.read()
    assert (leases["shardId-000000000000"].owner, leases["shardId-000000000001"].owner) == ("thief", "")
    assert {lease.checkpoint for lease in leases.values()} == {Position(50, 0)}


def rewound(world: World, known: Mapping[str, KnownShard]) -> None:
    world.table.online(
        lambda leases: leases, lambda leases: lease_writes.moves(APP, _moves(known), known, leases, 1.8e9)
    )


def test_of_two_rewinds_the_second_stops_and_the_first_moves_the_leases(dynamodb: Any) -> None:
    world, known = World(dynamodb), shards(2)
    for shard in known.values():
        world.put(shard, Position(50, 0), leaseOwner="worker")
    said: list[str] = []

    def second() -> None:
        world.slept = lambda: None

        def renews(seconds: float) -> None:
            for shard_id in known:
                world.renew(shard_id)

        other = LeaseTable(dynamodb, APP, failover_s=FAILOVER_S, sleep=renews)
        with pytest.raises(RefusedError, match="another rewind moves these leases; this one moved nothing"):
            other.online(lambda leases: leases, lambda leases: [])
        said.append("second")

    world.slept = second
    rewound(world, known)
    assert said == ["second"]
    assert {lease.checkpoint for lease in world.table.read().values()} == {Position(9, LAST_SUB)}


def test_leases_that_a_killed_rewind_has_parked_are_moved(dynamodb: Any) -> None:
    world, known = World(dynamodb), shards(2)
    for shard in known.values():
        world.put(shard, Position(50, 0), leaseOwner=f"{PARK}-killed")
    rewound(world, known)
    assert {lease.checkpoint for lease in world.table.read().values()} == {Position(9, LAST_SUB)}


def test_a_lease_that_another_rewind_takes_is_not_called_a_workers(dynamodb: Any) -> None:
    world, known = World(dynamodb), shards(1)
    world.put(known["shardId-000000000000"], Position(50, 0), leaseOwner="worker")
    world.slept = lambda: world.put(known["shardId-000000000000"], Position(50, 0), 999, leaseOwner=f"{PARK}-other")
    with pytest.raises(RefusedError, match="another rewind"):
        rewound(world, known)


def test_an_interrupted_rewind_says_that_nothing_was_moved_and_frees_the_leases(dynamodb: Any) -> None:
    world, known = World(dynamodb), shards(2)
    for shard in known.values():
        world.put(shard, Position(50, 0), leaseOwner="worker")
    said: list[str] = []

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    world.table = LeaseTable(dynamodb, APP, failover_s=FAILOVER_S, sleep=interrupted, tell=said.append)
    with pytest.raises(KeyboardInterrupt):
        rewound(world, known)
    assert said[-1].startswith("interrupted: no lease was moved. 2 parked leases get free now")
    assert {(lease.owner, lease.checkpoint) for lease in world.table.read().values()} == {("", Position(50, 0))}


def test_online_is_limited_to_one_transaction(dynamodb: Any) -> None:
    world = World(dynamodb)
    with pytest.raises(RefusedError, match="101 leases"):
        world.table.online(lambda leases: list(shards(AT_ONCE + 1)), lambda leases: [])
    assert world.waits == []


def test_an_undo_file_is_of_one_application_and_one_stream_and_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "undo.json"
    undo.write(path, export({}, Moves()))
    with pytest.raises(UserError, match="--undo FILE"):
        undo.write(path, export({}, Moves()))
    for of in (("other", "events", 1), (APP, "events", 2), (APP, "others", 1)):
        with pytest.raises(UserError, match="is of"):
            undo.read(path, *of)
    path.write_text("{}")
    with pytest.raises(UserError, match="not an undo file"):
        undo.read(path, APP, "events", 1)


def _moves(known: Mapping[str, KnownShard]) -> tuple[Move, ...]:
    return tuple(Move(shard_id, Position(50, 0), Position(9, LAST_SUB)) for shard_id in known)
