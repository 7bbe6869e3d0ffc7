"""The space of hash keys, 0 to 2^128 - 1, and how shards divide it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

SPACE = 2**128

NEAR = 2**64
"""Boundaries no further apart than this are the same to :func:`reshard`: rounding must not make a shard of one key,
which AWS's SplitShard refuses and KCL 3 takes for an error.
"""


class HashRange(NamedTuple):
    """Hash keys from ``start`` to ``end``, both included."""

    start: int
    end: int

    def split(self, at: int) -> tuple[HashRange, HashRange]:
        """Two ranges, the upper of which begins ``at``; ``start < at <= end``."""
        if not self.start < at <= self.end:
            raise ValueError(f"{at} does not split {self}")
        return HashRange(self.start, at - 1), HashRange(at, self.end)

    def merge(self, upper: HashRange) -> HashRange:
        """One range of this one and the one just above it."""
        if self.end + 1 != upper.start:
            raise ValueError(f"{upper} is not just above {self}")
        return HashRange(self.start, upper.end)

    def to_dict(self) -> dict[str, str]:
        return {"StartingHashKey": str(self.start), "EndingHashKey": str(self.end)}


class Split(NamedTuple):
    """Split the shard that has this range, so that one child begins ``at``."""

    shard: HashRange
    at: int


class Merge(NamedTuple):
    """Merge the two shards that have these ranges, ``upper`` just above ``lower``."""

    lower: HashRange
    upper: HashRange


def hash_of(partition_key: str) -> int:
    """Where a partition key falls: the MD5 of its UTF-8, as the API reference says."""
    return int.from_bytes(hashlib.md5(partition_key.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest())


def uniform(count: int) -> list[HashRange]:
    """``count`` ranges of the same size, give or take one key, which together are the whole space."""
    starts = [number * SPACE // count for number in range(count)]
    return [HashRange(start, end - 1) for start, end in zip(starts, [*starts[1:], SPACE], strict=True)]


def reshard(current: Sequence[HashRange], count: int) -> list[Split | Merge]:
    """Steps, in order, from ``current`` (sorted, the whole space) to ``uniform(count)``, or very near to it.

    First every split that a new boundary asks for, then the merges. As with AWS's UpdateShardCount, a count that
    neither divides nor multiplies the present one makes short-lived shards on the way.
    """
    target = _snapped(uniform(count), [whole.start for whole in current])
    steps: list[Split | Merge] = []
    pieces: list[HashRange] = []
    for whole in current:
        rest = whole
        for boundary in (wanted.start for wanted in target if whole.start < wanted.start <= whole.end):
            steps.append(Split(rest, boundary))
            piece, rest = rest.split(boundary)
            pieces.append(piece)
        pieces.append(rest)
    for wanted in target:
        joined, *others = (piece for piece in pieces if wanted.start <= piece.start <= wanted.end)
        for piece in others:
            steps.append(Merge(joined, piece))
            joined = joined.merge(piece)
    return steps


def _snapped(target: Sequence[HashRange], starts: Sequence[int]) -> list[HashRange]:
    """``target`` with each boundary moved to the one of ``starts`` that is near it, where there is one."""
    moved = [next((start for start in starts if abs(start - wanted.start) <= NEAR), wanted.start) for wanted in target]
    return [HashRange(start, end - 1) for start, end in zip(moved, [*moved[1:], SPACE], strict=True)]
