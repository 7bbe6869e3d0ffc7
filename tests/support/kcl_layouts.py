"""One application's items as KCL writes them in both layouts, by the entity classes of KCL 3.1.3 and 3.5.1.

Two workers, ``a`` (the leader) and ``b``; a split parent, one of whose children is handed from ``a`` to ``b``.
"""

from __future__ import annotations

from typing import Any

Item = dict[str, Any]

PARENT, LEFT, RIGHT = (f"shardId-{number:012d}" for number in range(3))
HALF, END = str(2**127), str(2**128 - 1)
REPORTED_S = 1_790_000_000
MIGRATED_MS = 1_790_000_000_500

BINDING: Item = {
    "key": {"S": "PenstockStream"},
    "streamName": {"S": "events"},
    "streamCreated": {"N": "1789000000"},
    "startsAt": {"S": "TRIM_HORIZON"},
    "leaseTable": {"S": "1789000001.000000"},
}


def leases(**extra: Any) -> list[Item]:
    """As ``DynamoDBLeaseSerializer`` writes it. ``extra`` goes into every item."""
    return [
        _lease(PARENT, "SHARD_END", ("0", END), childShardIds={"SS": [LEFT, RIGHT]}, **extra),
        _lease(
            LEFT,
            "49600000000000000000000000000000000000000000000000000001",
            ("0", str(2**127 - 1)),
            leaseOwner={"S": "b"},
            checkpointOwner={"S": "a"},
            parentShardId={"SS": [PARENT]},
            throughputKBps={"N": "12.5"},
            **extra,
        ),
        _lease(RIGHT, "TRIM_HORIZON", (HALF, END), leaseOwner={"S": "a"}, parentShardId={"SS": [PARENT]}, **extra),
    ]


def three_tables() -> tuple[list[Item], list[Item], list[Item]]:
    """KCL 3.0 to 3.4: leases, worker metrics, coordinator state."""
    metrics = [_metrics("wid", "a"), _metrics("wid", "b", failing=True)]
    return leases(), metrics, [_leader("key", "a"), _client("key"), dict(BINDING)]


def one_table() -> list[Item]:
    """KCL 3.5, everything in the lease table."""
    kind = "entityType"
    return [
        *leases(entityType={"S": "LEASE"}),
        {**_metrics("leaseKey", "a"), kind: {"S": "WORKER_METRIC_STATS"}, "sup": {"N": "1"}},
        {**_metrics("leaseKey", "b", failing=True), kind: {"S": "WORKER_METRIC_STATS"}, "sup": {"N": "1"}},
        {**_leader("leaseKey", "a"), kind: {"S": "LEADER"}},
        {**_client("leaseKey"), kind: {"S": "CLIENT_VERSION_MIGRATION"}},
        migration("COMPLETE"),
        {"leaseKey": {"S": "events"}, kind: {"S": "STREAM"}, "streamId": {"S": "stream-1"}},
    ]


def migration(status: str, key: str = "leaseKey", at_ms: int = MIGRATED_MS) -> Item:
    """As ``TableMigrationState``."""
    return {
        key: {"S": "TableMigration3.5"},
        "entityType": {"S": "TABLE_MIGRATION"},
        "tm": {"S": f"TABLE_MIGRATION_STATUS_{status}"},
        "mb": {"S": "a"},
        "mts": {"N": str(at_ms)},
    }


def _lease(shard: str, checkpoint: str, hash_keys: tuple[str, str], **extra: Any) -> Item:
    return {
        "leaseKey": {"S": shard},
        "leaseCounter": {"N": "7"},
        "ownerSwitchesSinceCheckpoint": {"N": "1"},
        "checkpoint": {"S": checkpoint},
        "checkpointSubSequenceNumber": {"N": "0"},
        "startingHashKey": {"S": hash_keys[0]},
        "endingHashKey": {"S": hash_keys[1]},
        **extra,
    }


def _metrics(key: str, worker: str, *, failing: bool = False) -> Item:
    """As ``WorkerMetricStats``."""
    return {
        key: {"S": worker},
        "lut": {"N": str(REPORTED_S)},
        "sts": {"M": {"CPU": {"L": [{"N": "10.5"}, {"N": "-1" if failing else "20"}]}}},
        "opr": {"M": {"CPU": {"L": [{"N": "80"}]}}},
    }


def _leader(key: str, worker: str) -> Item:
    """As the DynamoDB lock client writes it."""
    return {
        key: {"S": "Leader"},
        "ownerName": {"S": worker},
        "leaseDuration": {"S": "120000"},
        "recordVersionNumber": {"S": "0b5e8e0e-1111-4222-8333-444455556666"},
    }


def _client(key: str) -> Item:
    """As ``MigrationState``."""
    return {key: {"S": "Migration3.0"}, "cv": {"S": "CLIENT_VERSION_3X"}, "mb": {"S": "a"}, "mts": {"N": "1"}}
