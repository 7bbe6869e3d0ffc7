"""The space of hash keys, and how open shards share it. Pure.

The hash key of a partition key is its MD5 (:func:`pipeline.hash_keys.hash_of`), a number of 128 bits. The open shards
of a stream divide these numbers among them without a gap or an overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from consumer.aws.shards import KnownShard
from pipeline.hash_keys import HASH_KEYS, HashRange

SPACE = HASH_KEYS
"""The number of hash keys."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of hash keys that is, or will be, one open shard. ``shard_id`` is empty for a shard to be created.

    ``parents``: the present shards whose hash keys it takes over; empty for a shard that stays.
    """

    keys: HashRange
    shard_id: str = ""
    parents: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Share of the space of hash keys: 1.0 is all of it."""
        return size(self.keys) / SPACE


def size(keys: HashRange) -> int:
    """How many hash keys the range holds."""
    return keys.last - keys.first + 1


def range_of(shard: KnownShard) -> HashRange:
    """The shard's hash keys as numbers."""
    return HashRange(int(shard.hash_keys[0]), int(shard.hash_keys[1]))


def open_pieces(shards: Mapping[str, KnownShard]) -> tuple[Piece, ...]:
    """The open shards in the order of their hash keys."""
    found = [Piece(range_of(shard), shard.shard_id) for shard in shards.values() if shard.open]
    return tuple(sorted(found, key=lambda piece: piece.keys))


def alike(shards: Mapping[str, KnownShard]) -> bool:
    """Whether the open shards have the same size, to a hundredth."""
    sizes = [size(piece.keys) for piece in open_pieces(shards)]
    return not sizes or 100 * max(sizes) <= 101 * min(sizes)


def tiles(ranges: Iterable[HashRange]) -> bool:
    """Whether the ranges, in this order, cover the whole space once."""
    expected = 0
    for keys in ranges:
        if keys.first != expected or keys.last < keys.first:
            return False
        expected = keys.last + 1
    return expected == SPACE


def uniform(count: int) -> tuple[HashRange, ...]:
    """``count`` ranges that cover the whole space; their sizes differ by at most one key."""
    starts = [number * SPACE // count for number in range(count)]
    return tuple(HashRange(start, end - 1) for start, end in zip(starts, [*starts[1:], SPACE], strict=True))


def halved(keys: HashRange) -> int:
    """The first hash key of the upper half."""
    return keys.first + size(keys) // 2


def may_split(keys: HashRange, at: int) -> bool:
    """Whether Kinesis splits the range there: both children must hold more than the one key at the edge."""
    return keys.first + 1 < at < keys.last


def recounted(now: Sequence[Piece], count: int) -> tuple[Piece, ...]:
    """The result of UpdateShardCount: ``count`` shards of nearly the same size.

    A shard that already has the same range stays; the others name the present shards that they replace.
    """
    ids = {piece.keys: piece.shard_id for piece in now}
    made: list[Piece] = []
    below = 0
    for keys in uniform(count):
        while now[below].keys.last < keys.first:
            below += 1
        if keys in ids:
            made.append(Piece(keys, ids[keys]))
            continue
        parents: list[str] = []
        for piece in now[below:]:
            if piece.keys.first > keys.last:
                break
            parents.append(piece.shard_id)
        made.append(Piece(keys, "", tuple(parents)))
    return tuple(made)
