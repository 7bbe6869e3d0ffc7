"""A stream's shards, for operators. A value that cannot be read is None, and is shown as unknown."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from consumer.admin.shards.keyspace import SPACE, open_pieces, range_of, size, tiles
from consumer.admin.shards.lineage import forest
from consumer.admin.shards.observed import BYTES_PER_S, RECORDS_PER_S, Hot, hottest
from consumer.admin.shards.readers import Reader
from consumer.admin.shards.sampling import sample
from consumer.aws import shard_metrics
from consumer.aws.shard_metrics import ShardLoad
from consumer.aws.shards import KnownShard, Summary

WINDOW_S = 300.0
"""Seconds over which loads are averaged."""

PER_SHARD = 2_000
"""Maximum number of Kinesis records that a sample reads from each shard."""

AT_ONCE = 16
"""Number of shards sampled at the same time; each is read once a second."""

KEYS_SHOWN = 3
"""Number of hottest keys kept for each shard."""

Client = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class SampledListing:
    """The result of a sample of one shard. ``records``: number of user records in it."""

    load: ShardLoad
    hottest: tuple[Hot, ...]
    records: int


@dataclass(frozen=True, slots=True)
class Listing:
    """``loads`` by shard; the load of a shard that is missing is unknown. ``source``: where they come from."""

    summary: Summary
    shards: Mapping[str, KnownShard]
    loads: Mapping[str, ShardLoad] = field(default_factory=dict)
    source: str | None = None
    samples: Mapping[str, SampledListing] = field(default_factory=dict)
    readers: tuple[Reader, ...] = ()

    @property
    def open(self) -> list[KnownShard]:
        """The open shards, in the order of their hash keys."""
        return [self.shards[piece.shard_id] for piece in open_pieces(self.shards)]

    @property
    def whole(self) -> bool:
        """Whether the open shards cover all hash keys once, as they do while no change is in progress."""
        return tiles(piece.keys for piece in open_pieces(self.shards))

    def hot_keys(self, most: int) -> list[tuple[str, Hot, float]]:
        """Shard, key, and the minimum share of the key in the shard's sampled records; the hottest first."""
        found = [
            (shard_id, hot, hot.least / taken.records)
            for shard_id, taken in self.samples.items()
            for hot in taken.hottest
            if taken.records
        ]
        return sorted(found, key=lambda each: -each[1].least)[:most]

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``: every shard, parents before children. Hash keys are strings: they have 128 bits."""
        summary = self.summary
        return {
            "stream": summary.name,
            "status": summary.status,
            "mode": summary.mode,
            "retention_hours": summary.retention_hours,
            "open": len(self.open),
            "closed": len(self.shards) - len(self.open),
            "load_from": self.source,
            "readers": [reader.to_dict() for reader in self.readers],
            "shards": [{**self._said(node.shard), "depth": node.depth} for node in forest(self.shards)],
        }

    def _said(self, shard: KnownShard) -> dict[str, Any]:
        load, taken = self.loads.get(shard.shard_id), self.samples.get(shard.shard_id)
        return {
            "shard_id": shard.shard_id,
            "open": shard.open,
            "parents": list(shard.parents),
            "share": share(shard),
            "first_hash_key": shard.hash_keys[0],
            "last_hash_key": shard.hash_keys[1],
            "records_per_s": load.records_per_s if load else None,
            "bytes_per_s": load.bytes_per_s if load else None,
            "of_limit": of_limit(load),
            "hottest_keys": [hot._asdict() for hot in taken.hottest] if taken else None,
            "sampled_records": taken.records if taken else None,
        }


def share(shard: KnownShard) -> float:
    """Share of the space of hash keys."""
    return size(range_of(shard)) / SPACE


def of_limit(load: ShardLoad | None) -> float | None:
    """The load as a share of what a shard takes: 1.0 is its limit."""
    return None if load is None else max(load.records_per_s / RECORDS_PER_S, load.bytes_per_s / BYTES_PER_S)


def measured(client: Client, summary: Summary, shard_ids: Sequence[str], now_s: float) -> dict[str, ShardLoad] | None:
    """Loads from CloudWatch; None if the shard-level metrics are not enabled on the stream."""
    if not {shard_metrics.RECORDS, shard_metrics.BYTES} <= summary.monitored:
        return None
    return shard_metrics.written(client("cloudwatch"), summary.name, shard_ids, now_s - WINDOW_S, now_s)


def sampled(
    kinesis: Any,
    stream: str,
    shard_ids: Sequence[str],
    tell: Callable[[], object] = lambda: None,
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], object] = time.sleep,
) -> dict[str, SampledListing]:
    """Sample each shard. ``tell`` is called for each shard that is done. Raises botocore's errors."""
    since_s = clock() - WINDOW_S

    def of(shard_id: str) -> SampledListing:
        taken = sample(kinesis, stream, shard_id, since_s=since_s, most=PER_SHARD, clock=clock, sleep=sleep)
        top, records = hottest(taken.records, KEYS_SHOWN)
        tell()
        return SampledListing(taken.load, tuple(top), records)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return dict(zip(shard_ids, threads.map(of, shard_ids), strict=True))
