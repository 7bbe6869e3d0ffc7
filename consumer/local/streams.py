"""A stream: its shards, its state, and what splits and merges them. Pure: every time is an argument."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from consumer.local.errors import invalid, limit_exceeded, not_found
from consumer.local.shards import HASH_KEYS, Rates, Shard

ACCOUNT = "123456789012"
TRANSITION_S = 0.2
"""How long a stream is CREATING, UPDATING or DELETING. On AWS it is up to a minute."""

DAY_S = 86_400


def hash_key(partition_key: str) -> int:
    return int.from_bytes(hashlib.md5(partition_key.encode(), usedforsecurity=False).digest(), "big")


def even_bounds(count: int) -> list[int]:
    """The first hash key of each of ``count`` shards of equal size."""
    return [index * HASH_KEYS // count for index in range(count)]


@dataclass(slots=True)
class Consumer:
    name: str
    arn: str
    created_s: float
    tags: dict[str, str] = field(default_factory=dict)

    def describe(self, now_s: float) -> dict[str, Any]:
        return {
            "ConsumerName": self.name,
            "ConsumerARN": self.arn,
            "ConsumerStatus": "ACTIVE" if now_s >= self.created_s + TRANSITION_S else "CREATING",
            "ConsumerCreationTimestamp": self.created_s,
        }


@dataclass(slots=True)
class Stream:
    """A stream and its shards by index; ``is_open`` shards partition the space of hash keys at all times."""

    name: str
    region: str
    created_s: float
    mode: str = "PROVISIONED"
    retention_h: int = 24
    max_record_kib: int = 1024
    status: str = "CREATING"
    settled_s: float = 0.0
    shards: dict[str, Shard] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    monitoring: set[str] = field(default_factory=set)
    consumers: dict[str, Consumer] = field(default_factory=dict)
    resharded_s: list[float] = field(default_factory=list)
    _bounds: list[int] = field(default_factory=list)
    _open: list[Shard] = field(default_factory=list)
    _next_index: int = 0

    @classmethod
    def create(cls, name: str, region: str, shard_count: int, now_s: float) -> Stream:
        stream = cls(name, region, now_s, settled_s=now_s + TRANSITION_S)
        bounds = [*even_bounds(shard_count), HASH_KEYS]
        for start, after in pairwise(bounds):
            stream._add(start, after - 1, int(now_s * 1000), (), now_s)
        stream._index()
        return stream

    @property
    def arn(self) -> str:
        return f"arn:aws:kinesis:{self.region}:{ACCOUNT}:stream/{self.name}"

    @property
    def open_shards(self) -> list[Shard]:
        """By hash key."""
        return self._open

    def status_at(self, now_s: float) -> str:
        return "ACTIVE" if now_s >= self.settled_s and self.status != "DELETING" else self.status

    def change(self, status: str, now_s: float) -> None:
        self.status = status
        self.settled_s = now_s + TRANSITION_S

    def _add(self, start: int, end: int, opened_ms: int, parents: tuple[str, ...], now_s: float) -> Shard:
        shard = Shard(self._next_index, start, end, opened_ms, Rates.full(now_s), parents)
        self.shards[shard.shard_id] = shard
        self._next_index += 1
        return shard

    def _index(self) -> None:
        self._open = sorted((shard for shard in self.shards.values() if shard.is_open), key=lambda shard: shard.start)
        self._bounds = [shard.start for shard in self._open]

    def shard_of(self, key: int) -> Shard:
        """The open shard that takes this hash key."""
        return self._open[bisect_right(self._bounds, key) - 1]

    def shard(self, shard_id: str) -> Shard:
        found = self.shards.get(shard_id)
        if found is None:
            raise not_found(f"Shard {shard_id} in stream {self.name} under account {ACCOUNT} does not exist")
        return found

    def horizon_ms(self, now_s: float) -> int:
        """The oldest time of which records are kept."""
        return int(max(self.created_s, now_s - self.retention_h * 3600) * 1000)

    def trim(self, now_s: float) -> None:
        """Forget records past the retention, and closed shards that have been so for as long."""
        horizon_ms = int((now_s - self.retention_h * 3600) * 1000)
        gone = [
            key for key, shard in self.shards.items() if shard.closed_ms is not None and shard.closed_ms < horizon_ms
        ]
        for key in gone:
            del self.shards[key]
        for shard in self.shards.values():
            shard.trim(horizon_ms)

    # -- resharding

    def _open_shard(self, shard_id: str) -> Shard:
        shard = self.shard(shard_id)
        if not shard.is_open:
            raise invalid(
                f"Shard {shard_id} in stream {self.name} under account {ACCOUNT} has already been merged or split, "
                "and thus is not eligible for merging or splitting."
            )
        return shard

    def split(self, shard_id: str, new_start: int, now_s: float) -> None:
        """Close a shard and open two in its place, the second from ``new_start`` on."""
        shard = self._open_shard(shard_id)
        if not shard.start + 1 < new_start < shard.end:
            raise invalid(
                f"NewStartingHashKey {new_start} used in SplitShard() on shard {shard_id} in stream {self.name} under "
                f"account {ACCOUNT} is not both greater than one plus the shard's StartingHashKey {shard.start} and "
                f"less than the shard's EndingHashKey {shard.end - 1}."
            )
        self._replace([shard], [(shard.start, new_start - 1), (new_start, shard.end)], now_s)

    def merge(self, shard_id: str, adjacent_id: str, now_s: float) -> None:
        """Close two neighbouring shards and open one in their place."""
        first, second = self._open_shard(shard_id), self._open_shard(adjacent_id)
        if first.end + 1 != second.start and second.end + 1 != first.start:
            raise invalid(
                f"Shards {shard_id} and {adjacent_id} in stream {self.name} under account {ACCOUNT} are not an "
                "adjacent pair of shards eligible for merging"
            )
        span = (min(first.start, second.start), max(first.end, second.end))
        self._replace([first, second], [span], now_s)

    def _replace(self, parents: list[Shard], spans: list[tuple[int, int]], now_s: float) -> list[Shard]:
        """Children open a millisecond after their parents at least, which puts their sequence numbers above."""
        now_ms = max(int(now_s * 1000), *(shard.opened_ms + 1 for shard in parents))
        ids = tuple(shard.shard_id for shard in parents)
        children = [self._add(start, end, now_ms, ids, now_s) for start, end in spans]
        for shard in parents:
            shard.close(now_ms, tuple(child.shard_id for child in children))
        self._index()
        return children

    def scale(self, target: int, now_s: float) -> None:
        """Split and merge until ``target`` shards of equal size are open.

        As AWS: shards are first split at every bound of the target that falls within them, then the pieces that make
        up one target shard are merged, two at a time.
        """
        bounds = even_bounds(target)
        for bound in bounds[1:]:
            shard = self.shard_of(bound)
            if shard.start != bound:
                self._replace([shard], [(shard.start, bound - 1), (bound, shard.end)], now_s)
        for bound, after in pairwise([*bounds, HASH_KEYS]):
            while (left := self.shard_of(bound)).end + 1 < after:
                right = self.shard_of(left.end + 1)
                self._replace([left, right], [(left.start, right.end)], now_s)

    def check_scale(self, target: int, now_s: float) -> None:
        """:raises AwsError: this many shards are more than double, less than half, or the 11th change in 24 h."""
        count = len(self._open)
        if target > 2 * count or target * 2 < count:
            bound = f"{2 * count}" if target > count else f"{-(-count // 2)}"
            word = "greater" if target > count else "less"
            raise limit_exceeded(
                f"UpdateShardCount cannot scale {'up over double' if target > count else 'down below half'} your "
                f"current open shard count. Current open shard count: {count}, target shard count: {target}, "
                f"which must not be {word} than {bound}"
            )
        recent = [at_s for at_s in self.resharded_s if at_s > now_s - DAY_S]
        if len(recent) >= 10:
            raise limit_exceeded(
                f"Stream {self.name} under account {ACCOUNT} has been scaled 10 times within the last 24 hours"
            )
        self.resharded_s = recent
