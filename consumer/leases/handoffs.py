"""Ends handoffs that KCL has forgotten: a lease that this worker drains for another, with nothing left to drain.

KCL's leader moves a lease by naming the new owner and leaving the old one as the one who drains it
(``checkpointOwner``). The old one drains, and passes the lease on. KCL 3.1.3 forgets to where its consumer of the shard
ends before that: above all where the shard still waited for its parent, and nothing was ever read of it
(``LeaseGracefulShutdownHandler``; later releases mend it). Then nobody reads the shard until the old owner's task
ends, and no session is there to be found stuck.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from consumer.leases import leases
from consumer.leases.reassign import OrphanedLease, reassign

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

log = logging.getLogger("handoffs")

LOOK_S = 10.0
"""Between two readings of the lease table; KCL's leader reads it every two seconds."""

PATIENCE_S = 20.0
"""KCL itself passes a lease on within about two seconds of the drain, if at all."""


class HandoffWatch:
    """Tells which of the leases that ``me`` drains have been forgotten. Pure."""

    def __init__(self, me: str, patience_s: float = PATIENCE_S) -> None:
        self._me = me
        self._patience_s = patience_s
        self._since: dict[tuple[str, str], float] = {}

    def look(self, found: Iterable[leases.Lease], busy: Collection[str], now: float) -> list[OrphanedLease]:
        """``busy``: shards that have a session here. What is told has had none for all of ``patience_s``, while it was
        to go to the same owner.
        """
        idle = {
            (lease.shard_id, lease.owner): lease
            for lease in found
            if lease.draining_owner == self._me and lease.owner and lease.shard_id not in busy
        }
        self._since = {key: self._since.get(key, now) for key in idle}
        return [
            OrphanedLease(lease.shard_id, self._me, lease.owner, drainer=self._me)
            for key, lease in idle.items()
            if now - self._since[key] >= self._patience_s
        ]


async def watch(
    dynamodb: DynamoDBClient, application: str, watch: HandoffWatch, busy: Callable[[], Collection[str]]
) -> None:
    """Until cancelled. What AWS or the network refuses is logged, and tried again; anything else is raised."""
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            found = await asyncio.to_thread(leases.read, dynamodb, application)
            if forgotten := watch.look(found, busy(), time.monotonic()):
                await asyncio.to_thread(end, dynamodb, application, forgotten)
        except (BotoCoreError, ClientError) as error:
            log.warning(
                "cannot check handoffs, retrying in %g s: %s",
                LOOK_S,
                error,
                exc_info=log.isEnabledFor(logging.DEBUG),
            )


def end(dynamodb: DynamoDBClient, application: str, forgotten: Iterable[OrphanedLease]) -> None:
    """Pass each on to its owner, if it still is to go there. Blocks."""
    for shard_id, owner in reassign(dynamodb, application, forgotten, Counter(), 0).items():
        log.warning("%s: KCL did not complete its handoff to %s; completed it", shard_id, owner)
