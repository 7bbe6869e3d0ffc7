"""Creates leases for shards that no worker would read: for a new application, and for leases that were lost later.

KCL creates the lease of a child when its parent ends. It checks for missing leases every two minutes, and creates one
after three checks; here it is created at once. All calls block. Any number of workers may call this at once, because a
lease is only written if there is none.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING

from consumer.aws import shards
from consumer.aws.shards import KnownShard
from consumer.leases.leases import Lease, read
from consumer.leases.tables import Item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient

PUTS_AT_ONCE = 8


def holes(known: Mapping[str, KnownShard], leases: Iterable[Lease]) -> list[str]:
    """Return the shards that need a lease which KCL will not create. Pure.

    A shard without a lease is not read, unless its lineage shows that it was or will be read:

    - a descendant has been started: KCL starts no shard before the end of its parents, and has deleted their leases
    since;
    - an ancestor is still being read, or will be: KCL makes the leases of its children at its end.

    Of the remaining shards, only the oldest of each lineage are returned: their ends lead to the others.
    """
    leased = {lease.shard_id: lease for lease in leases}
    passed = _above(known, [lease for lease in leased.values() if _begun(lease)])

    @cache
    def leads_on(shard_id: str) -> bool:
        """Whether this shard has not ended yet: KCL creates its children's leases at its end."""
        if shard_id not in known:
            return False
        if shard_id in leased:
            return not leased[shard_id].ended
        return shard_id not in passed or any(map(leads_on, known[shard_id].parents))

    return sorted(
        shard_id
        for shard_id, shard in known.items()
        if shard_id not in leased and shard_id not in passed and not any(map(leads_on, shard.parents))
    )


def seed(
    dynamodb: DynamoDBClient, kinesis: KinesisClient, application: str, stream: str, start: str
) -> tuple[str, ...]:
    """Create the leases that are missing and that KCL will not create. Returns the shards of the created leases.

    ``start`` is TRIM_HORIZON or a time, because two workers would not agree on LATEST. In an empty table, leases are
    created for the shards that KCL would start with (``EmptyLeaseTableSynchronizer``): those that were open at
    ``start``. Leases missing in another table also start there, so that none of the application's records is skipped.
    """
    known = shards.known(kinesis, stream)
    found = read(dynamodb, application)
    missing = holes(known, found)
    if missing and (not found or start != "TRIM_HORIZON"):
        first = shards.open_at(kinesis, stream, start)
        missing = holes(_below(known, first), found) if found else sorted(first)
    if not missing:
        return ()
    sentinel = "TRIM_HORIZON" if start == "TRIM_HORIZON" else "AT_TIMESTAMP"

    def put(shard_id: str) -> bool:
        return _put_new(dynamodb, application, new_lease(known[shard_id], sentinel, int(time.time())))

    with ThreadPoolExecutor(PUTS_AT_ONCE) as threads:
        made = list(threads.map(put, missing))
    return tuple(shard_id for shard_id, new in zip(missing, made, strict=True) if new)


def _begun(lease: Lease) -> bool:
    """Whether all of its ancestors were read, or need not be read."""
    return lease.checkpoint is not None or lease.sentinel in ("SHARD_END", "LATEST")


def _above(known: Mapping[str, KnownShard], leases: Iterable[Lease]) -> set[str]:
    """All ancestors of the shards that have these leases."""
    passed: set[str] = set()
    waiting = [parent for lease in leases for parent in (*lease.parents, *_parents(known, lease.shard_id))]
    while waiting:
        if (shard_id := waiting.pop()) not in passed:
            passed.add(shard_id)
            waiting += _parents(known, shard_id)
    return passed


def _below(known: Mapping[str, KnownShard], first: Collection[str]) -> dict[str, KnownShard]:
    """These shards and all of their descendants; earlier shards do not belong to the application."""

    @cache
    def counts(shard_id: str) -> bool:
        return shard_id in first or any(map(counts, _parents(known, shard_id)))

    return {shard_id: shard for shard_id, shard in known.items() if counts(shard_id)}


def _parents(known: Mapping[str, KnownShard], shard_id: str) -> tuple[str, ...]:
    return known[shard_id].parents if shard_id in known else ()


def new_lease(shard: KnownShard, sentinel: str, counter: int) -> Item:
    """A new lease as ``DynamoDBLeaseSerializer`` writes it, except for the counter.

    A lease with this key may have existed before, and a worker that was frozen may still hold it: its writes are
    conditional on the counter, so no counter value may be used again. Therefore it starts at the time, in seconds.
    """
    lease: Item = {
        "leaseKey": {"S": shard.shard_id},
        "leaseCounter": {"N": str(counter)},
        "ownerSwitchesSinceCheckpoint": {"N": "0"},
        "checkpoint": {"S": sentinel},
        "checkpointSubSequenceNumber": {"N": "0"},
        "startingHashKey": {"S": shard.hash_keys[0]},
        "endingHashKey": {"S": shard.hash_keys[1]},
    }
    return lease | ({"parentShardId": {"SS": list(shard.parents)}} if shard.parents else {})


def _put_new(dynamodb: DynamoDBClient, table: str, item: Item) -> bool:
    try:
        dynamodb.put_item(TableName=table, Item=item, ConditionExpression="attribute_not_exists(leaseKey)")
    except dynamodb.exceptions.ConditionalCheckFailedException:
        return False
    return True
