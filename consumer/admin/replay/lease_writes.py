"""Conditional writes to a lease table that KCL cannot undo. Pure: entries of DynamoDB's TransactWriteItems.

Each requires that the lease has not changed since it was read. A worker's renewals and checkpoints are conditional on
the counter alone, and its next renewal adds 1: so each of these writes adds 100, and no counter value is used twice.
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
"""How much a write adds to a counter."""

PARK = "penstock-rewind"
"""The owner of a lease that is about to be moved, before the rewind's own number. It is not a worker, so the shard is
not read in the meantime."""

AT_ONCE = 100
"""Writes of one transaction (API reference, TransactWriteItems)."""

_PENDING = "pendingCheckpoint, pendingCheckpointSubSequenceNumber, pendingCheckpointState"


def move(table: str, lease: Lease, then: Checkpoint) -> Item:
    """Move the lease to ``then``, without an owner."""
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
    """Create a lease for a shard that has none. Its counter starts at the time, as in all leases of Penstock's."""
    sentinel = then if isinstance(then, str) else str(then.sequence)
    item = new_lease(shard, sentinel, int(now_s))
    if isinstance(then, Position):
        item["checkpointSubSequenceNumber"] = {"N": str(then.sub)}
    return {"Put": {"TableName": table, "Item": item, "ConditionExpression": "attribute_not_exists(leaseKey)"}}


def restore(table: str, lease: Lease, item: Item) -> Item:
    """Write the lease as ``item`` has it, without an owner."""
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
    """Delete the lease."""
    condition, values = _as_read(lease)
    return {
        "Delete": {
            "TableName": table,
            "Key": {"leaseKey": {"S": lease.shard_id}},
            "ConditionExpression": condition,
            "ExpressionAttributeValues": values,
        }
    }


def park(table: str, lease: Lease, owner: str) -> Item:
    """Take the lease from its worker. The checkpoint stays, so that an interruption costs only a fail-over."""
    return _update(
        table, lease, "SET leaseOwner = :park REMOVE checkpointOwner ADD leaseCounter :leap", {":park": {"S": owner}}
    )


def keep_parked(table: str, shard_id: str, owner: str) -> Item:
    """Renew a parked lease, so that it does not expire."""
    return {
        "Update": {
            "TableName": table,
            "Key": {"leaseKey": {"S": shard_id}},
            "UpdateExpression": "ADD leaseCounter :one",
            "ConditionExpression": "leaseOwner = :park AND attribute_not_exists(checkpointOwner)",
            "ExpressionAttributeValues": {":park": {"S": owner}, ":one": {"N": "1"}},
        }
    }


def unpark(table: str, lease: Lease) -> Item:
    """Free a parked lease; its position stays."""
    return _update(table, lease, "REMOVE leaseOwner ADD leaseCounter :leap", {})


def moves(
    table: str, planned: tuple[Move, ...], known: Mapping[str, KnownShard], leases: Mapping[str, Lease], now_s: float
) -> list[Item]:
    """One write for each move. Children come before their parents: KCL deletes the lease of a parent whose child is
    further on."""
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
    """The condition that neither owner nor counter has changed since."""
    read: dict[str, Item] = {":read": {"N": str(lease.counter)}}
    if not lease.owner:
        return "leaseCounter = :read AND attribute_not_exists(leaseOwner)", read
    return "leaseCounter = :read AND leaseOwner = :owner", read | {":owner": {"S": lease.owner}}
