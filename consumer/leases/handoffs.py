"""Completes handoffs that KCL leaves unfinished: leases that this worker should drain for another worker, but has
nothing to drain for.

To move a lease, KCL's leader sets the new owner and keeps the old one as ``checkpointOwner``, which drains the shard
and passes the lease on. KCL 3.1.3 does not pass it on if its consumer of the shard has already ended, for example
because the shard was still waiting for its parent (``LeaseGracefulShutdownHandler``; fixed in later releases). Then no
worker reads the shard until the old owner's task ends. Without a session, the check for stuck shards does not notice
it.
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
"""Seconds between two reads of the lease table. KCL's leader reads it every two seconds."""

WAIT_S = 20.0
"""Seconds before a handoff is completed here. KCL itself passes a lease on within about two seconds of the drain."""


class HandoffWatch:
    """Finds the unfinished handoffs among the leases that ``me`` drains. Pure."""

    def __init__(self, me: str, wait_s: float = WAIT_S) -> None:
        self._me = me
        self._wait_s = wait_s
        self._since: dict[tuple[str, str], float] = {}

    def look(self, found: Iterable[leases.Lease], busy: Collection[str], now: float) -> list[OrphanedLease]:
        """Return the leases that have had no session here, and the same new owner, for ``wait_s``.

        ``busy`` has the shards with a session in this task.
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
            if now - self._since[key] >= self._wait_s
        ]


async def watch(
    dynamodb: DynamoDBClient, application: str, watch: HandoffWatch, busy: Callable[[], Collection[str]]
) -> None:
    """Run until cancelled. Errors of AWS and of the network are logged and retried; others are raised."""
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
    """Pass each lease on to its new owner, unless it has changed. Blocks."""
    for shard_id, owner in reassign(dynamodb, application, forgotten, Counter(), 0).items():
        log.warning("%s: KCL did not complete its handoff to %s; completed it", shard_id, owner)
