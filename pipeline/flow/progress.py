"""The recent progress of each shard, and the batches that the model has: the data of ``/stats`` and ``penstock
status``.

Pure: ``now`` is an argument, in seconds of any clock that never goes back. Nothing here is called for each record.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

WINDOW_S = 120.0
"""Seconds over which a rate and a trend are computed."""

LEAST_S = 5.0
"""Over fewer seconds there is neither a rate nor a trend."""


class ProgressSample(NamedTuple):
    """At ``at_s``: how many records had arrived and had settled, and how many seconds the shard was behind."""

    at_s: float
    received: int
    settled: int
    behind_s: float


@dataclass(frozen=True, slots=True)
class ShardPace:
    """A shard's progress in the last two minutes. None: the task has not had the shard for long enough.

    ``rate``: settled records a second. ``arrival_rate``: records put on the shard a second, in the time in which those
    that settled arrived: those that settled, by the time that their arrivals spanned.
    ``slope``: by how many seconds it falls behind each second;
    ``idle_s``: seconds since its last record arrived, or, while none has, since the task has the shard.
    """

    received: int
    settled: int
    rate: float | None
    arrival_rate: float | None
    slope: float | None
    idle_s: float


@dataclass(frozen=True, slots=True)
class BatchOut:
    """A batch that the model has. ``tries``: calls for parts of it, after the first call."""

    shards: tuple[str, ...]
    age_s: float
    tries: int


@dataclass(slots=True)
class _Shard:
    last_s: float
    received: int = 0
    settled: int = 0
    samples: deque[ProgressSample] = field(default_factory=deque)


@dataclass(slots=True)
class _Batch:
    shards: tuple[str, ...]
    since_s: float
    tries: int = 0


def _arrival_rate(first: ProgressSample, last: ProgressSample) -> float | None:
    """A shard that is at ``at_s`` and ``behind_s`` has settled what arrived until ``at_s - behind_s``.

    None if too little of that time has passed: the shard stands still, or falls behind as fast as time passes.
    """
    span_s = (last.at_s - last.behind_s) - (first.at_s - first.behind_s)
    return (last.settled - first.settled) / span_s if span_s >= LEAST_S else None


class Progress:
    """The progress of one task: its shards, and the batches that are out."""

    def __init__(self) -> None:
        self._shards: dict[str, _Shard] = {}
        self._out: dict[int, _Batch] = {}
        self._numbers = count()

    def received(self, shard: str, records: int, now: float) -> None:
        """Records of a message were admitted."""
        of = self._of(shard, now)
        of.received += records
        of.last_s = now

    def settled(self, shard: str, records: int) -> None:
        """Records have their rows, or are dead letters. Those of a shard that has moved away are not counted."""
        if of := self._shards.get(shard):
            of.settled += records

    def sample(self, shard: str, behind_s: float, now: float) -> None:
        """Note how far a shard is behind. Call it every few seconds."""
        of = self._of(shard, now)
        of.samples.append(ProgressSample(now, of.received, of.settled, behind_s))
        while now - of.samples[0].at_s > WINDOW_S:
            of.samples.popleft()

    def forget(self, shard: str) -> None:
        """The shard moved to another task."""
        self._shards.pop(shard, None)

    def pace(self, shard: str, now: float) -> ShardPace | None:
        """Return a shard's progress; None for an unknown shard."""
        of = self._shards.get(shard)
        if of is None:
            return None
        idle_s = now - of.last_s
        first = of.samples[0] if of.samples else None
        if first is None or now - first.at_s < LEAST_S:
            return ShardPace(of.received, of.settled, None, None, None, idle_s)
        lasted_s = now - first.at_s
        return ShardPace(
            of.received,
            of.settled,
            (of.settled - first.settled) / lasted_s,
            _arrival_rate(first, of.samples[-1]),
            slope([(sample.at_s, sample.behind_s) for sample in of.samples]),
            idle_s,
        )

    # -- batches

    @contextmanager
    def batch(self, shards: Sequence[str], now: float) -> Iterator[None]:
        """A batch of records of these shards is with the model until the block ends."""
        number = next(self._numbers)
        self._out[number] = _Batch(tuple(shards), now)
        try:
            yield
        finally:
            del self._out[number]

    def tried_again(self, shards: Iterable[str]) -> None:
        """The model was called for a part of a batch with these shards."""
        names = set(shards)
        for batch in self._out.values():
            if names & set(batch.shards):
                batch.tries += 1

    def batches(self, now: float) -> list[BatchOut]:
        """Return the batches that the model has now, the oldest first."""
        return [BatchOut(batch.shards, now - batch.since_s, batch.tries) for batch in self._out.values()]

    def _of(self, shard: str, now: float) -> _Shard:
        return self._shards.setdefault(shard, _Shard(now))


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Return by how much the second number rises for each unit of the first, by least squares; None if it is
    undefined.
    """
    if len(points) < 2 or points[-1][0] - points[0][0] < LEAST_S:
        return None
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else None
