"""The lineage of shards: parents and children. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from consumer.admin.shards.keyspace import range_of
from consumer.aws.shards import KnownShard


class Node(NamedTuple):
    """A shard in the forest: its depth, and its other parent if it is a merge of two."""

    shard: KnownShard
    depth: int
    other_parent: str = ""


def forest(shards: Mapping[str, KnownShard]) -> list[Node]:
    """Every shard once, each below the first of its parents that is still known, in the order of hash keys."""
    below: dict[str, list[KnownShard]] = defaultdict(list)
    for shard in sorted(shards.values(), key=lambda shard: (range_of(shard), shard.shard_id)):
        below[next((parent for parent in shard.parents if parent in shards), "")].append(shard)
    return list(_walk(below))


def _walk(below: Mapping[str, list[KnownShard]]) -> Iterator[Node]:
    """Depth first, without recursion: a stream that has been split often is deep."""
    left = [(shard, 0) for shard in reversed(below.get("", []))]
    while left:
        shard, depth = left.pop()
        first = next(iter(shard.parents), "")
        yield Node(shard, depth, ", ".join(shard.parents[1:]) if first else "")
        left += [(child, depth + 1) for child in reversed(below.get(shard.shard_id, []))]
