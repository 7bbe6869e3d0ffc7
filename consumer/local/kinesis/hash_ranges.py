"""The space of hash keys, 0 to 2^128 - 1, and how shards divide it."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

SPACE = 2**128

NEAR = 2**64
""":func:`reshard` treats boundaries within this distance as equal. Otherwise rounding could make a shard of one hash
key, which SplitShard of AWS refuses and KCL 3 reports as an error.
"""


class KeyRange(NamedTuple):
    """Hash keys from ``start`` to ``end``, both included."""

    start: int
    end: int

    def split(self, at: int) -> tuple[KeyRange, KeyRange]:
        """Return the two ranges below and from ``at``.

        :raises ValueError: unless ``start < at <= end``.
        """
        if not self.start < at <= self.end:
            raise ValueError(f"{at} does not split {self}")
        return KeyRange(self.start, at - 1), KeyRange(at, self.end)

    def merge(self, upper: KeyRange) -> KeyRange:
        """Return the union with the adjacent range above.

        :raises ValueError: if the ranges are not adjacent.
        """
        if self.end + 1 != upper.start:
            raise ValueError(f"{upper} is not adjacent to {self}")
        return KeyRange(self.start, upper.end)

    def to_dict(self) -> dict[str, str]:
        """Return ``HashKeyRange`` as the API has it: decimal strings."""
        return {"StartingHashKey": str(self.start), "EndingHashKey": str(self.end)}


class SplitRange(NamedTuple):
    """Split the shard with this range; the upper child starts ``at``."""

    shard: KeyRange
    at: int


class MergeRanges(NamedTuple):
    """Merge the two shards with these adjacent ranges."""

    lower: KeyRange
    upper: KeyRange


def hash_of(partition_key: str) -> int:
    """Return the hash key of a partition key: the MD5 of its UTF-8 bytes (API reference of PutRecord)."""
    return int.from_bytes(hashlib.md5(partition_key.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest())


def uniform(count: int) -> list[KeyRange]:
    """Return ``count`` ranges that cover the whole space; their sizes differ by at most one key."""
    starts = [number * SPACE // count for number in range(count)]
    return [KeyRange(start, end - 1) for start, end in zip(starts, [*starts[1:], SPACE], strict=True)]


def reshard(current: Sequence[KeyRange], count: int) -> list[SplitRange | MergeRanges]:
    """Return the steps, in order, from ``current`` to ``uniform(count)``, up to ``NEAR``.

    ``current`` must be sorted and cover the whole space. All splits come before all merges. Like UpdateShardCount of
    AWS, a count that is neither a divisor nor a multiple of the current one makes intermediate shards.
    """
    target = _snapped(uniform(count), [whole.start for whole in current])
    boundaries = [wanted.start for wanted in target]
    steps: list[SplitRange | MergeRanges] = []
    pieces: list[KeyRange] = []
    for whole in current:
        rest = whole
        for boundary in boundaries[bisect_right(boundaries, whole.start) : bisect_right(boundaries, whole.end)]:
            steps.append(SplitRange(rest, boundary))
            piece, rest = rest.split(boundary)
            pieces.append(piece)
        pieces.append(rest)
    starts = [piece.start for piece in pieces]
    for wanted in target:
        joined, *others = pieces[bisect_left(starts, wanted.start) : bisect_right(starts, wanted.end)]
        for piece in others:
            steps.append(MergeRanges(joined, piece))
            joined = joined.merge(piece)
    return steps


def _near(starts: Sequence[int], boundary: int) -> int:
    """Return the lowest of the sorted ``starts`` within ``NEAR`` of ``boundary``; without one, ``boundary``."""
    at = bisect_left(starts, boundary - NEAR)
    return starts[at] if at < len(starts) and starts[at] <= boundary + NEAR else boundary


def _snapped(target: Sequence[KeyRange], starts: Sequence[int]) -> list[KeyRange]:
    """Return ``target`` with each boundary moved to the one of ``starts`` within ``NEAR``, if there is one."""
    moved = [_near(starts, wanted.start) for wanted in target]
    return [KeyRange(start, end - 1) for start, end in zip(moved, [*moved[1:], SPACE], strict=True)]
