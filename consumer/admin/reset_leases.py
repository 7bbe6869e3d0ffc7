"""Deletes an application's leases, so that it starts again: for a stream that was created again, or a new ``start``.

Only while no worker renews them: a lease is deleted if its counter has not changed for longer than ``failover_ms``, and
has not changed until the delete. The binding is deleted last: after an interruption, no worker starts with the
application, and it can be reset again. Tables, and what KCL keeps beside the leases, stay. All calls block.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consumer.leases.binding import Binding, find, forget
from consumer.leases.leases import Lease, read
from consumer.leases.tables import delete_if
from pipeline.errors import RefusedError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

MARGIN_S = 2.0
"""Seconds for which leases are watched beyond the time in which KCL renews them."""


@dataclass(frozen=True, slots=True)
class ResetPlan:
    """The items that a reset deletes."""

    application: str
    bound: Binding | None
    leases: tuple[Lease, ...]

    @property
    def nothing(self) -> bool:
        """There are no leases and no binding to delete."""
        return self.bound is None and not self.leases


def plan(dynamodb: DynamoDBClient, application: str) -> ResetPlan:
    """The leases and the binding now; empty if there are no tables."""
    try:
        bound = find(dynamodb, application)
    except dynamodb.exceptions.ResourceNotFoundException:
        bound = None
    return ResetPlan(application, bound, tuple(read(dynamodb, application)))


def renewed(before: Iterable[Lease], after: Iterable[Lease]) -> list[Lease]:
    """The leases of ``after`` that have been renewed or created since. Pure."""
    counters = {lease.shard_id: lease.counter for lease in before}
    return [lease for lease in after if counters.get(lease.shard_id) != lease.counter]


def carry_out(
    dynamodb: DynamoDBClient, planned: ResetPlan, failover_s: float, sleep: Callable[[float], object] = time.sleep
) -> int:
    """Watch the leases for ``failover_s`` and a little more, then delete them. Returns their number.

    :raises RefusedError: a worker still renews a lease: nothing, or only a part, was deleted.
    """
    sleep(failover_s + MARGIN_S)
    if moved := renewed(planned.leases, read(dynamodb, planned.application)):
        raise _at_work(moved[0])
    for lease in planned.leases:
        counter = {"N": str(lease.counter)}
        if not delete_if(dynamodb, planned.application, {"leaseKey": {"S": lease.shard_id}}, leaseCounter=counter):
            raise _at_work(lease)
    if planned.bound is not None:
        forget(dynamodb, planned.application, planned.bound)
    return len(planned.leases)


def _at_work(lease: Lease) -> RefusedError:
    who = f"worker {lease.holder}" if lease.holder else "a worker"
    return RefusedError(f"{who} holds the lease of {lease.shard_id}. Stop every worker first, then reset again")
