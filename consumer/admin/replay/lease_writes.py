"""Conditional writes to a lease table that KCL cannot undo. Pure: entries of DynamoDB's TransactWriteItems.

Each is conditional on the lease being as it was read. A worker's renewals and checkpoints are conditional on the
counter alone, and its next renewal is the counter plus 1: so a counter always rises by 100, and never comes back.
"""

from __future__ import annotations

from collections.abc import Mapping

from consumer.admin.replay.rewind import Checkpoint, Move
from consumer.aws.shards import KnownShard
from consumer.leases.leases import Lease
from consumer.leases.seed import new_lease
from consumer.leases.tables import Item
from pipeline.record import Position

LEAP = 100
"""What a counter rises by."""

PARK = "penstock-rewind"
"""The owner of a lease that is about to be moved. It is no worker, so nobody reads the shard meanwhile."""

AT_ONCE = 100
"""Writes of one transaction (API reference, TransactWriteItems)."""

_PENDING = "pendingCheckpoint, pendingCheckpointSubSequenceNumber, pendingCheckpointState"


def move(table: str, lease: Lease, then: Checkpoint) -> Item:
    """The lease stands at ``then``, and is nobody's."""
    values = {
        ":sequence": {"S": str(then.sequence if isinstance(then, Position) else then)},
        ":sub": {"N": str(then.sub if isinstance(then, Position) else 0)},
        ":zero": {"N": "0"},
    }
    expression = (
        "SET checkpoint = :sequence, checkpointSubSequenceNumber = :sub, ownerSwitchesSinceCheckpoint = :zero "
        f"REMOVE leaseOwner, checkpointOwner, {_PENDING} ADD leaseCounter :leap"
    )
    return _update(table, lease, expression, values)


def make(table: str, shard: KnownShard, then: Checkpoint, now_s: float) -> Item:
    """A lease for a shard that has none. It begins at the time for its counter, as every new lease of ours."""
    sentinel = then if isinstance(then, str) else str(then.sequence)
    item = new_lease(shard, sentinel, int(now_s))
    if isinstance(then, Position):
        item["checkpointSubSequenceNumber"] = {"N": str(then.sub)}
    return {"Put": {"TableName": table, "Item": item, "ConditionExpression": "attribute_not_exists(leaseKey)"}}


def restore(table: str, lease: Lease, item: Item) -> Item:
    """The lease is what ``item`` was, and is nobody's."""
    free = {name: value for name, value in item.items() if name not in ("leaseOwner", "checkpointOwner")}
    counter = {"leaseCounter": {"N": str(lease.counter + LEAP)}}
    condition, values = _as_read(lease)
    return {
        "Put": {
            "TableName": table,
            "Item": free | counter,
            "ConditionExpression": condition,
            "ExpressionAttributeValues": values,
        }
    }


def remove(table: str, lease: Lease) -> Item:
    """There is no such lease any more."""
    condition, values = _as_read(lease)
    return {
        "Delete": {
            "TableName": table,
            "Key": {"leaseKey": {"S": lease.shard_id}},
            "ConditionExpression": condition,
            "ExpressionAttributeValues": values,
        }
    }


def park(table: str, lease: Lease) -> Item:
    """Nobody reads the shard. The checkpoint stays, so that whatever interrupts this costs a fail-over and no more."""
    return _update(
        table, lease, "SET leaseOwner = :park REMOVE checkpointOwner ADD leaseCounter :leap", {":park": {"S": PARK}}
    )


def keep_parked(table: str, shard_id: str) -> Item:
    """A parked lease does not expire."""
    return {
        "Update": {
            "TableName": table,
            "Key": {"leaseKey": {"S": shard_id}},
            "UpdateExpression": "ADD leaseCounter :one",
            "ConditionExpression": "leaseOwner = :park AND attribute_not_exists(checkpointOwner)",
            "ExpressionAttributeValues": {":park": {"S": PARK}, ":one": {"N": "1"}},
        }
    }


def unpark(table: str, lease: Lease) -> Item:
    """A parked lease is free again, where it stood."""
    return _update(table, lease, "REMOVE leaseOwner ADD leaseCounter :leap", {})


def moves(
    table: str, planned: tuple[Move, ...], known: Mapping[str, KnownShard], leases: Mapping[str, Lease], now_s: float
) -> list[Item]:
    """One write for each move. Children come before their parents: a parent that is to be read again while its child
    stands further on would be deleted by KCL."""
    newest_first = sorted(planned, key=lambda each: each.shard_id, reverse=True)
    return [
        make(table, known[each.shard_id], each.then, now_s)
        if each.now is None
        else move(table, leases[each.shard_id], each.then)
        for each in newest_first
    ]


def _update(table: str, lease: Lease, expression: str, values: Mapping[str, Item]) -> Item:
    condition, read = _as_read(lease)
    leap = {":leap": {"N": str(LEAP)}} if ":leap" in expression else {}
    return {
        "Update": {
            "TableName": table,
            "Key": {"leaseKey": {"S": lease.shard_id}},
            "UpdateExpression": expression,
            "ConditionExpression": condition,
            "ExpressionAttributeValues": {**values, **leap, **read},
        }
    }


def _as_read(lease: Lease) -> tuple[str, dict[str, Item]]:
    """The condition that neither owner nor counter have changed since."""
    read: dict[str, Item] = {":read": {"N": str(lease.counter)}}
    if not lease.owner:
        return "leaseCounter = :read AND attribute_not_exists(leaseOwner)", read
    return "leaseCounter = :read AND leaseOwner = :owner", read | {":owner": {"S": lease.owner}}
