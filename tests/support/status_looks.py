"""Looks at an application, as ``penstock status`` takes them. Everything is healthy unless the test says otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from consumer.admin.status.snapshot import Snapshot, WorkerSaid
from consumer.aws.shards import KnownShard
from consumer.leases.leases import Lease
from consumer.leases.state import THREE_TABLES, ApplicationState, Leader, WorkerMetrics
from pipeline.record import Position

NOW = 1_800_000_000.0
A, B, C = (f"shardId-{number:012d}" for number in range(3))


def lease(shard_id: str = A, owner: str = "w1", **changes: Any) -> Lease:
    """A lease at sequence number 42, unless it has a ``sentinel``."""
    fields: dict[str, Any] = {
        "counter": 7,
        "checkpoint": None if "sentinel" in changes else Position(42, 0),
        "sentinel": "",
        "parents": (),
        "children": (),
        "draining_owner": "",
    }
    return Lease(shard_id, owner, **(fields | changes))


def says(by_shard: Mapping[str, Mapping[str, Any]], at_s: float = NOW, **more: Any) -> WorkerSaid:
    """The report of a worker that makes progress on these shards, unless the test says otherwise."""
    well = {
        "unsettled": 3,
        "held_bytes": 900,
        "lag_s": 0,
        "behind_s": 0.4,
        "rate": 5.0,
        "idle_s": 0.1,
        "slope": 0.0,
    }
    stats = {
        "worker": "w1",
        "penstock": "0.1.0",
        "model_version": "m@1",
        "max_leases": 0,
        "batches": 10,
        "mean_batch": 8.0,
        "busy": 0.5,
        "efficiency": 0.4,
        "batch_p99_s": 1.0,
        "batches_out": [],
        "outages": [],
        "by_shard": {shard: {**well, **told} for shard, told in by_shard.items()},
    }
    return WorkerSaid({**stats, **more}, "page", at_s)


def look(
    *leases: Lease,
    at_s: float = NOW,
    said: Mapping[str, WorkerSaid] | None = None,
    workers: Iterable[str] = ("w1", "w2"),
    silent_s: Mapping[str, float] | None = None,
    leader: str | None = "w1",
    failing: Iterable[str] = (),
    **more: Any,
) -> Snapshot:
    """``silent_s``: for how long each worker has not reported; by default none is silent."""
    silent = silent_s or {}
    metrics = {
        worker: WorkerMetrics(
            worker, int(at_s - silent.get(worker, 0)), {"CPU": (-1.0 if worker in failing else 10.0,)}
        )
        for worker in workers
    }
    state = ApplicationState(
        "app", THREE_TABLES, leases, metrics, Leader(leader, "v", 120.0) if leader is not None else None
    )
    known = {each.shard_id: KnownShard(each.shard_id, each.parents, open=not each.ended) for each in leases}
    return Snapshot(at_s, state, more.pop("known", known), said or {}, **more)
