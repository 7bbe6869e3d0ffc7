"""Reads KCL's leases in DynamoDB, and passes them on when a worker ends.

The tables are KCL 3's: ``<application>`` (leases), ``<application>-CoordinatorState`` (the leader's lock) and
``<application>-WorkerMetricStats`` (who is alive). Writes are the same as KCL's, with conditions that let any
number of workers race. Leases are made by :mod:`consumer.leases.seed`. All calls block and raise
botocore's errors.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from consumer.config.kcl_properties import WORKER_REPORT_MS
from consumer.leases.reassign import OrphanedLease, reassign
from consumer.leases.tables import Item, delete_if, lease_items, reports, text
from pipeline.errors import UserError
from pipeline.record import Position

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

log = logging.getLogger("leases")

LATE_S = 0.5
"""Seconds after which the decisions that a leader made before a worker left, or drained for it, have arrived."""

ALIVE_S = 2 * WORKER_REPORT_MS / 1000
"""KCL's own rule: a worker that has missed two reports gets no leases."""


@dataclass(frozen=True, slots=True)
class Lease:
    """One shard's lease. If ``checkpoint`` is None, ``sentinel`` is set: TRIM_HORIZON, LATEST, SHARD_END …"""

    shard_id: str
    owner: str
    counter: int
    checkpoint: Position | None
    sentinel: str
    parents: tuple[str, ...]
    children: tuple[str, ...]
    draining_owner: str
    """The worker that still drains the shard before ``owner`` may start; empty if there is none."""
    hash_keys: tuple[str, str] = ("", "")
    """The shard's first and last hash key; empty if KCL has not written them, as before 2.3."""
    switches: int = 0
    """Number of owner changes since the last checkpoint."""
    pending: str = ""
    """A checkpoint that was prepared but not made: a sequence number or a sentinel; empty in nearly every lease."""
    throughput_kbps: float | None = None
    """The shard's load as measured by the owner; None if KCL has not measured it yet."""
    raw: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """The whole item in DynamoDB's form."""

    @property
    def holder(self) -> str:
        """The worker that renews it: the owner, or the worker that still drains it for the owner."""
        return self.draining_owner or self.owner

    @property
    def ended(self) -> bool:
        """All of the shard is read and checkpointed."""
        return self.sentinel == "SHARD_END"

    def left_by(self, worker_id: str, counter: int | None = None) -> OrphanedLease:
        """A lease to pass on from a worker that is gone; with ``counter``, only if the lease still has it."""
        return OrphanedLease(self.shard_id, worker_id, self.owner, self.draining_owner, counter)


def read(dynamodb: DynamoDBClient, application: str) -> list[Lease]:
    """Return every lease, sorted by shard; empty if there is no table yet."""
    return sorted(map(lease_of, lease_items(dynamodb, application)), key=lambda lease: lease.shard_id)


def switches(dynamodb: DynamoDBClient, application: str, shard_id: str) -> int:
    """Return how often the lease has changed owners since its last checkpoint; 0 if that cannot be read."""
    try:
        found = dynamodb.get_item(TableName=application, Key={"leaseKey": {"S": shard_id}}, ConsistentRead=True)
    except (BotoCoreError, ClientError) as error:
        log.warning("%s: its lease cannot be read: %s", shard_id, error)
        return 0
    return int(found.get("Item", {}).get("ownerSwitchesSinceCheckpoint", {"N": "0"})["N"])


def release(dynamodb: DynamoDBClient, application: str, worker_id: str, max_leases: int = 0) -> dict[str, str]:
    """Pass on the leases of a worker whose JVM is dead. Returns its shards with their new owners, "" for none.

    Leases go to living workers, those with the fewest leases first and none beyond ``max_leases`` (0: no limit). If no
    worker is alive, they are left free for the next leader. Without this call, leases would wait for ``failover_ms``
    and the leader's lock for 120 seconds, living workers check the lock only every 30 seconds, and the leader would
    still assign leases to a worker that reported recently. Every write is conditional on the worker still holding the
    lease, so the call is safe at any time and may be repeated.
    """
    me: Item = {"S": worker_id}
    delete_if(dynamodb, f"{application}-WorkerMetricStats", {"wid": me}, wid=me)
    passed = _pass_on(dynamodb, application, worker_id, max_leases)
    if _alive(dynamodb, application, time.time()):
        time.sleep(LATE_S)
        passed |= _pass_on(dynamodb, application, worker_id, max_leases)
    delete_if(dynamodb, f"{application}-CoordinatorState", {"key": {"S": "Leader"}}, ownerName=me)
    return passed


def _pass_on(dynamodb: DynamoDBClient, application: str, worker_id: str, max_leases: int) -> dict[str, str]:
    found = read(dynamodb, application)
    held = [lease.left_by(worker_id) for lease in found if worker_id in {lease.owner, lease.draining_owner}]
    alive = _alive(dynamodb, application, time.time()) - {worker_id} if held else set()
    return reassign(dynamodb, application, held, load_of(found, alive), max_leases)


def load_of(found: Iterable[Lease], workers: Collection[str]) -> Counter[str]:
    """Number of leases of each of these workers, with those that are being drained for it."""
    load = Counter(dict.fromkeys(workers, 0))
    load.update(lease.owner for lease in found if lease.owner in workers)
    return load


def _alive(dynamodb: DynamoDBClient, application: str, now_s: float) -> set[str]:
    """The workers that have reported recently; none if KCL has no table of them."""
    return {worker for worker, at_s in reports(dynamodb, application).items() if at_s >= now_s - ALIVE_S}


def lease_of(item: Item) -> Lease:
    """Parse an item of the lease table.

    :raises UserError: if it is not a lease.
    """
    try:
        return _lease_of(item)
    except (KeyError, ValueError):
        key = text(item, "leaseKey")
        problem = f'"{key}" in the lease table is not a lease as KCL writes them'
        raise UserError(f"{problem}. Remove it, or use another stream.application") from None


def _lease_of(item: Item) -> Lease:
    checkpoint = text(item, "checkpoint")
    position = None
    if checkpoint.isdigit():
        position = Position(int(checkpoint), int(item["checkpointSubSequenceNumber"]["N"]))
    return Lease(
        shard_id=text(item, "leaseKey"),
        owner=text(item, "leaseOwner"),
        counter=int(item["leaseCounter"]["N"]),
        checkpoint=position,
        sentinel="" if position else checkpoint,
        parents=tuple(sorted(item.get("parentShardId", {}).get("SS", ()))),
        children=tuple(sorted(item.get("childShardIds", {}).get("SS", ()))),
        draining_owner=text(item, "checkpointOwner"),
        hash_keys=(text(item, "startingHashKey"), text(item, "endingHashKey")),
        switches=int(item.get("ownerSwitchesSinceCheckpoint", {"N": "0"})["N"]),
        pending=text(item, "pendingCheckpoint"),
        throughput_kbps=float(item["throughputKBps"]["N"]) if "throughputKBps" in item else None,
        raw=item,
    )


def as_kcl_has_it(position: Position) -> Position:
    """Return KCL's checkpoint after this record and its whole aggregate."""
    return Position(position.sequence, 0)
