"""Takes one shard's lease from its owner, so that KCL's leader gives it to a worker again.

This is one conditional write, like that with which KCL's leader evicts an owner
(``DynamoDBLeaseRefresher.evictLease``), except that it adds 100 to the counter. The owner's renewals and checkpoints
are conditional on the counter. If the counter of its own lease is higher by 1, KCL assumes that this was its own write
whose answer was lost.

Position and notes stay, so no record is lost; records that the owner had read and not checkpointed are read again.
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
"""KCL's default, used without a configuration."""

ASSIGNED_EACH = 2
"""The leader assigns leases once in this many times failover_ms (``leaseAssignmentIntervalMillis``)."""

RENEWED_EACH = 3
"""An owner renews its leases this many times in failover_ms, and then notices that it has lost one."""

TRIES = 10
"""Attempts. An owner renews its lease only every few seconds, so one of a few attempts finds the counter unchanged."""


@dataclass(frozen=True, slots=True)
class Release:
    """Free ``lease`` from its owner. The owner notices within ``noticed_s``, and ``leader`` gives the shard to a worker
    within ``assigned_s``; that may be the same one."""

    lease: Lease
    leader: str
    noticed_s: float
    assigned_s: float


def plan(state: ApplicationState, shard_id: str, now_s: float, failover_s: float = FAILOVER_S) -> Release:
    """Plan a release. Pure.

    :raises UserError: there is no such lease.
    :raises NothingToDo: the lease has no owner, or the shard is read to its end.
    :raises RefusedError: a handoff or a checkpoint is pending, or there is no living leader to give it to a worker.
    """
    lease = state.lease(shard_id)
    if lease is None:
        raise UserError(f'there is no lease of "{shard_id}" in table "{state.application}". See `penstock leases list`')
    if lease.ended:
        raise NothingToDo(f"{shard_id} is read to its end: no worker needs its lease")
    if not lease.owner:
        raise NothingToDo(f"{shard_id} has no owner: its lease is free")
    if reason := pending(lease):
        raise RefusedError(f"{shard_id}: {reason}. Wait until that is done, then release again")
    return Release(lease, _leader(state, now_s), failover_s / RENEWED_EACH, failover_s * ASSIGNED_EACH)


def pending(lease: Lease) -> str:
    """What is in progress with a lease and would be interrupted by a release; empty if nothing is."""
    if lease.draining_owner:
        return f"{lease.draining_owner} drains it for {lease.owner}"
    return f"a checkpoint is prepared at {lease.pending}" if lease.pending else ""


def _leader(state: ApplicationState, now_s: float) -> str:
    """The leader that will give it to a worker."""
    leader = state.leader
    advice = "Start a worker, or wait until another one leads (KCL's lock lasts 120 s), then release again"
    if leader is None:
        raise RefusedError(f"there is no leader to give the lease to another worker. {advice}")
    seen_s = state.last_sign_s(leader.worker)
    if seen_s is None or now_s - seen_s > state.silent_after_s(leader.worker):
        since = "" if seen_s is None else f" for {now_s - seen_s:.0f} s"
        raise RefusedError(
            f"leader {leader.worker} has not reported{since}: if it is dead, it gives the lease to no other worker. "
            f"{advice}"
        )
    return leader.worker


def carry_out(
    dynamodb: DynamoDBClient, application: str, planned: Release, sleep: Callable[[float], object] = time.sleep
) -> None:
    """Free the lease if its owner is still the same and nothing is pending. A renewal in between does no harm.

    :raises RefusedError: the lease has another owner now, or changed before each attempt.
    """
    lease = planned.lease
    for _ in range(TRIES):
        if _free(dynamodb, application, lease):
            return
        sleep(0.1)
        lease = _still(dynamodb, application, planned.lease)
    raise RefusedError(
        f"{lease.shard_id}: the lease changed before each of {TRIES} attempts, so nothing was released. Try again"
    )


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
    """The lease now; refused if it has another owner, or if something is pending."""
    now = next((lease for lease in read(dynamodb, application) if lease.shard_id == planned.shard_id), None)
    if now is None or now.owner != planned.owner:
        now_has = f"the lease now belongs to {now.owner}" if now and now.owner else "no worker has the lease now"
        raise RefusedError(f"{planned.shard_id}: {now_has}, so nothing was released")
    if reason := pending(now):
        raise RefusedError(f"{planned.shard_id}: {reason}; nothing was released")
    return now
