"""Keys in a sample of a shard's records: the hottest ones, and the hash key that halves the load. Pure.

Load is counted in the unit whose limit the shard is nearer to: records (1,000 a second) or bytes (1 MiB a second).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from typing import NamedTuple

from consumer.admin.shards.keyspace import may_split
from pipeline.hash_keys import HashRange, hash_of

RECORDS_PER_S, BYTES_PER_S = 1_000, 1024 * 1024
"""The limits of a shard (service quotas of Kinesis Data Streams)."""

KEYS_KEPT = 1_000
"""Counters of a sketch: it has every key with more than a thousandth of the sample."""


class Sampled(NamedTuple):
    """A record that a producer wrote; each user record of an aggregate is one.

    ``key`` is None in streams whose records have no key. ``outer_key``: the key of the Kinesis record that contains it.
    Its hash selected the shard, unless an explicit hash key did.
    """

    key: str | None
    size: int
    outer_key: str | None = None


class Hot(NamedTuple):
    """A key with the lower and upper bounds of its load: a sketch of bounded size has no exact counts."""

    key: str
    least: int
    most: int


class HottestKeys:
    """A space-saving sketch (Metwally, Agrawal, El Abbadi 2005) over ``capacity`` keys.

    Each key with more than ``total / capacity`` of the weight is kept, and no count is too low.
    """

    def __init__(self, capacity: int = KEYS_KEPT) -> None:
        self._capacity = capacity
        self._counts: dict[str, int] = {}
        self._errors: dict[str, int] = {}
        self.total = 0

    def add(self, key: str, weight: int) -> None:
        """Count a record of this key."""
        self.total += weight
        counts = self._counts
        if key in counts:
            counts[key] += weight
        elif len(counts) < self._capacity:
            counts[key] = weight
            self._errors[key] = 0
        else:
            self._replace(key, weight)

    def _replace(self, key: str, weight: int) -> None:
        lightest = min(self._counts, key=self._counts.__getitem__)
        least = self._counts.pop(lightest)
        del self._errors[lightest]
        self._counts[key] = least + weight
        self._errors[key] = least

    def top(self, most: int) -> list[Hot]:
        """The hottest keys, the hottest first."""
        found = nlargest(most, self._counts.items(), key=lambda item: (item[1] - self._errors[item[0]], item[1]))
        return [Hot(key, count - self._errors[key], count) for key, count in found]


@dataclass
class Weights:
    """Load by hash key, from the sampled records of one shard. Memory grows with the number of keys in the sample.

    ``unplaced`` of ``total`` has an explicit hash key or no key, so its hash key is unknown.
    """

    keys: HashRange
    by_bytes: bool = False
    total: int = 0
    unplaced: int = 0
    at: dict[int, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)

    def add(self, record: Sampled) -> None:
        """Count one record."""
        weight = record.size if self.by_bytes else 1
        self.total += weight
        for key in (record.key, record.outer_key):
            if key is not None and self.keys.first <= (place := hash_of(key)) <= self.keys.last:
                self.at[place] = self.at.get(place, 0) + weight
                self.names[place] = key
                return
        self.unplaced += weight


@dataclass(frozen=True, slots=True)
class Median:
    """Where to split: ``lower`` and ``upper`` are the shares of the sampled load that the children get."""

    at: int
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class NoMedian:
    """Why the sample gives no place to split. ``key``: the key with more than half of the load, if that is why."""

    why: str
    key: str | None = None


LEAST_SAMPLE = 100
"""Minimum number of records or bytes in a sample from which the distribution of the load can be told."""


def weights_of(keys: HashRange, records: Sequence[Sampled]) -> Weights:
    """The load in a shard's sample: in bytes if these are nearer to the shard's limit than the records are."""
    by_bytes = sum(record.size for record in records) / BYTES_PER_S > len(records) / RECORDS_PER_S
    weights = Weights(keys, by_bytes)
    for record in records:
        weights.add(record)
    return weights


def median(shard_id: str, weights: Weights) -> Median | NoMedian:
    """The hash key that divides the sampled load most evenly."""
    if weights.total < LEAST_SAMPLE:
        few = f"{weights.total} {'bytes' if weights.by_bytes else 'records'}"
        return NoMedian(
            f"{shard_id} has too few records in the sample: {few}. Try again when it has more, or give --at"
        )
    placed = weights.total - weights.unplaced
    if 2 * placed < weights.total:
        return NoMedian(
            f"{_percent(weights.unplaced / weights.total)} of {shard_id}'s sampled load has an explicit hash key or no "
            "key, so its hash keys are unknown. Give --at"
        )
    heaviest = max(weights.at, key=weights.at.__getitem__)
    if 2 * weights.at[heaviest] > placed:
        key = weights.names[heaviest]
        return NoMedian(
            f"partition key {key!r} alone carries {_percent(weights.at[heaviest] / placed)} of {shard_id}'s sampled "
            "load, and no split can divide one key. Have its producer spread it over several keys",
            key,
        )
    return _most_even(shard_id, weights, placed)


def _most_even(shard_id: str, weights: Weights, placed: int) -> Median | NoMedian:
    best: Median | None = None
    below, before = 0, weights.keys.first
    for place in sorted(weights.at):
        at = (
            before + (place - before + 1) // 2
        )  # half-way between two sampled keys: assume that other keys are spread evenly
        if below and may_split(weights.keys, at):
            lower = below / placed
            if best is None or abs(lower - 0.5) < abs(best.lower - 0.5):
                best = Median(at, lower, 1 - lower)
        below += weights.at[place]
        before = place
    return best or NoMedian(f"all of {shard_id}'s sampled keys are at one edge of it. Give --at")


def hottest(records: Iterable[Sampled], most: int) -> tuple[list[Hot], int]:
    """The hottest keys by records, and how many records there were."""
    sketch = HottestKeys()
    count = 0
    for record in records:
        count += 1
        if record.key is not None:
            sketch.add(record.key, 1)
    return sketch.top(most), count


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
