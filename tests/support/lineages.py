"""Streams with splits and merges, and applications that have read part of them, for tests of replays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

from hypothesis import strategies as st

from consumer.admin.replay.rewind import AT_TIMESTAMP, SHARD_END, TRIM_HORIZON, Checkpoint, ShardFacts
from consumer.aws.shards import KnownShard
from consumer.leases.leases import Lease
from pipeline.record import Position

T = TypeVar("T")

# Strategies are made once: to make one for each draw takes most of the time.
FIRST, ROUNDS, ARRIVALS, MOMENTS = st.integers(1, 3), st.integers(0, 12), st.integers(0, 4), st.integers(0, 500)
ACTS, BEGINNINGS = st.sampled_from(["nothing", "split", "merge"]), st.sampled_from([TRIM_HORIZON, AT_TIMESTAMP])
BOOLEANS = st.booleans()


@cache
def places(count: int) -> st.SearchStrategy[int]:
    return st.sampled_from(range(count))


def one_of(draw: st.DrawFn, choices: Sequence[T]) -> T:
    return choices[draw(places(len(choices)))]


@dataclass
class Stream:
    """Records are numbered in the order of their arrival, and arrive at ten times their number."""

    shards: dict[str, KnownShard] = field(default_factory=dict)
    records: dict[str, list[int]] = field(default_factory=dict)

    def open(self, *parents: str) -> str:
        shard_id = f"shardId-{len(self.shards):012d}"
        for parent in parents:
            self.shards[parent] = KnownShard(parent, self.shards[parent].parents, open=False)
        self.shards[shard_id] = KnownShard(shard_id, parents)
        self.records[shard_id] = []
        return shard_id

    def facts(self, moment: int) -> dict[str, ShardFacts]:
        return {shard_id: self._facts(numbers, moment) for shard_id, numbers in self.records.items()}

    def _facts(self, numbers: list[int], moment: int) -> ShardFacts:
        before = [number for number in numbers if 10 * number < moment]
        after = [number for number in numbers if 10 * number >= moment]
        return ShardFacts(Position(before[-1], 0) if before else None, Position(after[0], 0) if after else None)

    def children(self, shard_id: str) -> list[str]:
        return [child for child, shard in self.shards.items() if shard_id in shard.parents]


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    stream, number = Stream(), 0
    for _ in range(draw(FIRST)):
        stream.open()
    for _ in range(draw(ROUNDS)):
        for _ in range(draw(ARRIVALS)):
            number += 1
            open_shards = [each for each, shard in stream.shards.items() if shard.open]
            stream.records[one_of(draw, open_shards)].append(number)
        open_shards = [each for each, shard in stream.shards.items() if shard.open]
        one = one_of(draw, open_shards)
        other = one_of(draw, open_shards)
        act = draw(ACTS)
        if act == "split":
            stream.open(one)
            stream.open(one)
        elif act == "merge" and one != other:
            stream.open(one, other)
    return stream


STREAMS = streams()


def lease(shard: KnownShard, checkpoint: Checkpoint) -> Lease:
    at = checkpoint if isinstance(checkpoint, Position) else None
    return Lease(shard.shard_id, "", 1, at, "" if at else str(checkpoint), shard.parents, (), "")


@st.composite
def applications(draw: st.DrawFn, stream: Stream) -> dict[str, Lease]:
    """Leases as KCL leaves them: children after parents, and some of those that are finished deleted."""
    first = draw(BEGINNINGS)
    leases = {each: lease(shard, first) for each, shard in stream.shards.items() if not shard.parents}
    for shard_id, shard in stream.shards.items():
        if not all(parent in leases and leases[parent].ended for parent in shard.parents):
            continue
        numbers = stream.records[shard_id]
        at_records: list[Checkpoint] = [Position(number, 0) for number in numbers]
        ended: list[Checkpoint] = [] if shard.open else [SHARD_END] * (2 + len(numbers))
        at = one_of(draw, [*at_records, *ended, leases.get(shard_id, lease(shard, TRIM_HORIZON)).sentinel])
        leases[shard_id] = lease(shard, at)
        if at == SHARD_END:
            for child in stream.children(shard_id):
                leases.setdefault(child, lease(stream.shards[child], TRIM_HORIZON))
    for shard_id in list(leases):
        children = stream.children(shard_id)
        done = leases[shard_id].ended and children
        begun = all(child in leases and leases[child].sentinel != TRIM_HORIZON for child in children)
        if done and begun and draw(BOOLEANS):
            del leases[shard_id]
    return leases


@st.composite
def cases(draw: st.DrawFn) -> tuple[Stream, dict[str, Lease], int]:
    stream = draw(STREAMS)
    return stream, draw(applications(stream)), draw(MOMENTS)
