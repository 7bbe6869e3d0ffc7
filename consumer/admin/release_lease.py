"""Frees one shard's lease from its owner, so that KCL's leader gives it to a worker anew.

One conditional write, as a leader of KCL evicts an owner (``DynamoDBLeaseRefresher.evictLease``), but for the counter.
It goes up by 100: the owner's renewals and checkpoints are conditional on the counter, and KCL takes "mine, and one
more" for its own lost answer. Position and notes stay, so nothing is lost; what the owner had read and not checkpointed
is read again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consumer.leases.leases import Lease, read
from consumer.leases.state import ApplicationState
from pipeline.errors import NothingToDo, RefusedError, UserError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

FAILOVER_S = 10.0
"""KCL's default, where no configuration says otherwise."""

ASSIGNED_EACH = 2
"""The leader assigns leases once in so many times failover_ms (``leaseAssignmentIntervalMillis``)."""

RENEWED_EACH = 3
"""An owner renews its leases so many times in failover_ms, and learns then that one is not its own any more."""

SHOWS_LIFE_S = 90.0
"""A leader that has not reported for longer is taken for dead; KCL's workers report every 30 seconds at least."""

TRIES = 10
"""An owner renews its lease every few seconds, so a write finds the counter as it was read, or soon does."""


@dataclass(frozen=True, slots=True)
class Release:
    """Free ``lease`` from its owner. The owner notices within ``noticed_s``, and ``leader`` gives the shard to a worker
    within ``assigned_s``; that may be the same one."""

    lease: Lease
    leader: str
    noticed_s: float
    assigned_s: float


def plan(state: ApplicationState, shard_id: str, now_s: float, failover_s: float = FAILOVER_S) -> Release:
    """What a release comes to. Pure.

    :raises UserError: there is no such lease.
    :raises NothingToDo: nobody has it, or the shard is read to its end.
    :raises RefusedError: a hand-off or a checkpoint is pending, or no living leader would give it to a worker.
    """
    lease = state.lease(shard_id)
    if lease is None:
        raise UserError(f'there is no lease of "{shard_id}" in table "{state.application}". See `penstock leases list`')
    if lease.ended:
        raise NothingToDo(f"{shard_id} is read to its end: nobody needs its lease any more")
    if not lease.owner:
        raise NothingToDo(f"{shard_id} has no owner: its lease is free")
    if reason := pending(lease):
        raise RefusedError(f"{shard_id}: {reason}. Wait until it has come to its end, then release again")
    return Release(lease, _leader(state, now_s), failover_s / RENEWED_EACH, failover_s * ASSIGNED_EACH)


def pending(lease: Lease) -> str:
    """What is under way with a lease that a release would cut short; empty if nothing is."""
    if lease.draining_owner:
        return f"{lease.draining_owner} drains it for {lease.owner}"
    return f"a checkpoint is prepared at {lease.pending}" if lease.pending else ""


def _leader(state: ApplicationState, now_s: float) -> str:
    """Who will give it to a worker."""
    leader = state.leader
    advice = "Start a worker, or wait until another one leads (KCL's lock lasts 120 s), then release again"
    if leader is None:
        raise RefusedError(f"no worker leads: nobody would give the lease to another worker. {advice}")
    metrics = state.workers.get(leader.worker)
    if metrics is not None and metrics.reported_s is not None and now_s - metrics.reported_s > SHOWS_LIFE_S:
        silent_s = now_s - metrics.reported_s
        raise RefusedError(
            f"leader {leader.worker} has not reported for {silent_s:.0f} s: it may be dead, and then nobody gives the "
            f"lease to another worker. {advice}"
        )
    return leader.worker


def carry_out(
    dynamodb: DynamoDBClient, application: str, planned: Release, sleep: Callable[[float], object] = time.sleep
) -> None:
    """Free it, if it is still its owner's and nothing is pending. A renewal in between is no hindrance.

    :raises RefusedError: the lease has changed hands meanwhile, or is never as it was read.
    """
    lease = planned.lease
    for _ in range(TRIES):
        if _free(dynamodb, application, lease):
            return
        sleep(0.1)
        lease = _still(dynamodb, application, planned.lease)
    raise RefusedError(f"{lease.shard_id}: its lease changes all the time; nothing was released. Try again")


def _free(dynamodb: DynamoDBClient, application: str, lease: Lease) -> bool:
    try:
        dynamodb.update_item(
            TableName=application,
            Key={"leaseKey": {"S": lease.shard_id}},
            UpdateExpression="REMOVE leaseOwner ADD leaseCounter :hundred",
            ConditionExpression=(
                "leaseOwner = :owner AND leaseCounter = :counter AND attribute_not_exists(checkpointOwner) "
                "AND attribute_not_exists(pendingCheckpoint)"
            ),
            ExpressionAttributeValues={
                ":owner": {"S": lease.owner},
                ":counter": {"N": str(lease.counter)},
                ":hundred": {"N": "100"},
            },
        )
    except dynamodb.exceptions.ConditionalCheckFailedException:
        return False
    return True


def _still(dynamodb: DynamoDBClient, application: str, planned: Lease) -> Lease:
    """The lease as it is now; refused if it is not the same owner's, or something is pending."""
    now = next((lease for lease in read(dynamodb, application) if lease.shard_id == planned.shard_id), None)
    if now is None or now.owner != planned.owner:
        owner = now.owner if now is not None else "nobody"
        raise RefusedError(f"{planned.shard_id}: {owner or 'nobody'} has its lease now; nothing was released")
    if reason := pending(now):
        raise RefusedError(f"{planned.shard_id}: {reason}; nothing was released")
    return now
