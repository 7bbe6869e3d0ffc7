"""Two workers that share a stream's shards, and when each record was seen, from their rows."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tests.e2e.rig import UP_S, Rig, Worker, wait_until

SHARDS = 4
"""Two shards for each worker, or three and one."""

SOON = "" if os.environ.get("PENSTOCK_FIGURES") else "failover_ms = 4000"
"""The figures of docs/reliability.md are those of the default; the tests need not wait that long."""


@dataclass
class Pair:
    leader: Worker
    follower: Worker

    def other(self, worker: Worker) -> Worker:
        return self.follower if worker is self.leader else self.leader


def clock_config(rig: Rig) -> Path:
    """A model that returns when it sees a record, and files of one second each."""
    sink = f'[[sink]]\ntype = "parquet"\nurl = "{rig.table}"\nflush_interval_s = 1'
    clock = 'factory = "tests.e2e.models:Clock"\nversion = "test-1"\nthreads = 1'
    return rig.config(model=clock, kcl=SOON, sinks=sink)


def share(rig: Rig, first: Worker, second: Worker) -> Pair:
    """Return when both workers read and all shards are leased. Records must flow meanwhile."""
    wait_until(lambda: owned(rig) == {first.id, second.id}, 90, "leases spread over two workers")
    wait_until(lambda: first.stats()["enriched"] and second.stats()["enriched"], UP_S, "both at work")
    leads = rig.leader()
    assert leads in {first.id, second.id}
    return Pair(first, second) if leads == first.id else Pair(second, first)


def owned(rig: Rig) -> set[str]:
    """The owners of all shards; empty if a shard has none."""
    owners = rig.owners()
    return set(owners.values()) if len(owners) == SHARDS else set()


def shards_of(rig: Rig, worker: Worker) -> list[str]:
    return [shard for shard, owner in rig.owners().items() if owner == worker.id]


def taken_over(rig: Rig, shards: list[str], since_s: float, deadline_s: float = UP_S) -> dict[str, float]:
    """Per shard: seconds from ``since_s`` (wall clock) until the present owner saw a first record. Call it while no
    worker checkpoints them."""
    before = rig.leases()

    def read_again() -> bool:
        found = rig.leases()
        return all(found[shard].checkpoint != before[shard].checkpoint for shard in shards)

    def look() -> dict[str, float]:
        rows = rig.rows()
        seen = rows[rows["seen_s"] > since_s].groupby("shard_id")["seen_s"].min()
        return {shard: float(seen[shard]) - since_s for shard in shards} if set(shards) <= set(seen.index) else {}

    wait_until(read_again, deadline_s, f"new checkpoints of each of {shards}")  # costs less than many looks at the rows
    return dict(wait_until(look, deadline_s, f"a record of each of {shards} since {since_s}"))


def longest_gaps(rows: pd.DataFrame, since_s: float) -> pd.DataFrame:
    """Per shard, in seconds, for records after ``since_s``: the longest time between two records being seen
    (``unseen_s``), and from the arrival of a record until it is seen (``waited_s``)."""
    arrived_s = (rows["arrived_at"] - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    late = rows.assign(waited_s=rows["seen_s"] - arrived_s)[arrived_s > since_s].sort_values("seen_s")
    shards = late.groupby("shard_id")
    return pd.DataFrame(
        {"unseen_s": shards["seen_s"].agg(lambda s: s.diff().max()), "waited_s": shards["waited_s"].max()}
    )


def now_s() -> float:
    """The wall clock of :class:`tests.e2e.models.Clock`, on the same machine."""
    return time.time()
