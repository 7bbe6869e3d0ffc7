"""Watches the leader while a task runs, and takes over from a dead one: see :mod:`consumer.leases.takeover`.

Cost per worker: two reads of one item every ``GLANCE_S``, 0.8 read units a second. All leases and reports are read only
while the leader is silent, every ``CLOSE_LOOK_S``; KCL's own leader does so every two seconds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from consumer.leases import leases
from consumer.leases.reassign import reassign
from consumer.leases.tables import Item, delete_if, reports, text
from consumer.leases.takeover import LeaderObservation, LeaderWatch, Takeover
from pipeline.retry import Retry, only

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

log = logging.getLogger("takeover")

GLANCE_S, CLOSE_LOOK_S = 2.5, 1.0

LOOK = Retry(2 * GLANCE_S, 60.0, on=only(BotoCoreError, ClientError))
"""Retries a check that AWS or the network refuses."""


async def watch(
    dynamodb: DynamoDBClient, application: str, watch: LeaderWatch, max_leases: int, *, retry: Retry = LOOK
) -> None:
    """Run until cancelled. Errors of AWS and of the network are logged and retried; others are raised."""
    look = partial(asyncio.to_thread, step, dynamodb, application, watch, max_leases)
    while True:
        await retry.call(look, on_failure=_tell)
        await asyncio.sleep(CLOSE_LOOK_S if watch.close else GLANCE_S)


def _tell(error: Exception, wait_s: float) -> None:
    log.warning(
        "cannot check the leader, retrying in %g s: %s",
        wait_s,
        error,
        exc_info=error if log.isEnabledFor(logging.DEBUG) else None,
    )


def step(dynamodb: DynamoDBClient, application: str, watch: LeaderWatch, max_leases: int) -> dict[str, str]:
    """Check once, and act on the result. Blocks. Returns the shards that were passed on, with their new owners."""
    takeover = watch.look(observe(dynamodb, application, close=watch.close))
    return take_over(dynamodb, application, takeover, max_leases) if takeover else {}


def observe(dynamodb: DynamoDBClient, application: str, *, close: bool) -> LeaderObservation:
    """Read the leader's signs of life; with ``close``, those of all workers and all leases. Blocks."""
    began_s = time.monotonic()
    lock = _item(dynamodb, f"{application}-CoordinatorState", {"key": {"S": "Leader"}})
    leader = "" if "isReleased" in lock else text(lock, "ownerName")
    held = None
    if close:
        held = {lease.shard_id: lease for lease in leases.read(dynamodb, application)}
        reported = reports(dynamodb, application)
    else:
        metrics = _item(dynamodb, f"{application}-WorkerMetricStats", {"wid": {"S": leader}}) if leader else {}
        reported = {leader: int(metrics["lut"]["N"])} if "lut" in metrics else {}
    return LeaderObservation(began_s, time.monotonic(), leader, text(lock, "recordVersionNumber"), reported, held)


def take_over(dynamodb: DynamoDBClient, application: str, takeover: Takeover, max_leases: int) -> dict[str, str]:
    """Pass on the leases of dead workers, then free the leader's lock. Blocks.

    The lock stays while a write to one of the leader's leases is refused: another worker passes it on, or the leader is
    back. The next check shows which. When the lock is freed, no lease is left that would wait for a new leader.
    """
    load = takeover.load.copy()
    passed = reassign(dynamodb, application, takeover.holdings, load, max_leases)
    refused = [each.shard_id for each in takeover.holdings if each.shard_id not in passed]
    log.warning(
        "leader %s has been silent for %.0f s: took over %s%s",
        takeover.leader,
        takeover.silent_s,
        ", ".join(f"{shard} for {owner or 'the next worker'}" for shard, owner in passed.items()) or "nothing",
        f"; refused for {', '.join(refused)}" if refused else "",
    )
    if not any(each.gone == takeover.leader and each.shard_id in refused for each in takeover.holdings):
        _forget(dynamodb, application, takeover)
    return passed


def _forget(dynamodb: DynamoDBClient, application: str, takeover: Takeover) -> None:
    key: Item = {"key": {"S": "Leader"}}
    leader, version = {"S": takeover.leader}, {"S": takeover.version}
    if delete_if(dynamodb, f"{application}-CoordinatorState", key, ownerName=leader, recordVersionNumber=version):
        log.warning("the lock of leader %s is free", takeover.leader)
    if takeover.report is not None:
        lut = {"N": str(takeover.report)}
        delete_if(dynamodb, f"{application}-WorkerMetricStats", {"wid": leader}, wid=leader, lut=lut)


def _item(dynamodb: DynamoDBClient, table: str, key: Item) -> Item:
    """Empty if there is no such item, or no table yet."""
    try:
        return dict(dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item", {}))
    except dynamodb.exceptions.ResourceNotFoundException:
        return {}
