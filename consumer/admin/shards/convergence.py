"""Whether an application has followed a change of a stream's shards. Pure.

It has followed when every closed shard that had a lease is at SHARD_END, or its lease is deleted (KCL deletes those of
ended shards), and every open shard has a lease with an owner and a counter that changes. A changing counter shows that
the owner renews the lease, so it reads the shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from consumer.aws.shards import KnownShard
from consumer.leases.leases import Lease
from pipeline.errors import counted


@dataclass(frozen=True, slots=True)
class Left:
    """What is left, by shard id. ``reading``: closed shards that are not read to their ends yet."""

    reading: tuple[str, ...] = ()
    without_lease: tuple[str, ...] = ()
    without_owner: tuple[str, ...] = ()
    handed_over: tuple[str, ...] = ()
    not_seen_moving: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Shards that the application has not followed to yet."""
        return sum(len(getattr(self, name)) for name in self.__slots__)

    @property
    def stages(self) -> list[str]:
        """The kinds of what is left."""
        return [name for name in _WORDS if getattr(self, name)]

    def __str__(self) -> str:
        """In words; shards are named if they are few."""
        said = [f"{_named(getattr(self, name))} {_WORDS[name]}" for name in self.stages]
        return "; ".join(said) or "every lease is owned and moving"


_WORDS = {
    "reading": "closed, and not read to the end",
    "without_lease": "without a lease",
    "without_owner": "without an owner",
    "handed_over": "being handed over",
    "not_seen_moving": "owned, and not seen renewed yet",
}


def _named(ids: tuple[str, ...]) -> str:
    return ", ".join(ids) if len(ids) <= 2 else counted(len(ids), "shard")


@dataclass
class Convergence:
    """Repeated reads of shards and leases. A lease counts as moving once its counter has changed between two reads."""

    _first: dict[str, tuple[str, int]] = field(default_factory=dict)
    _moving: set[str] = field(default_factory=set)

    def look(self, shards: Mapping[str, KnownShard], leases: Iterable[Lease]) -> Left:
        """What is left, by this read and the earlier ones."""
        found = {lease.shard_id: lease for lease in leases}
        open_ids = sorted(shard.shard_id for shard in shards.values() if shard.open)
        leased = [found[shard_id] for shard_id in open_ids if shard_id in found]
        for lease in leased:
            self._note(lease)
        owned = [lease for lease in leased if lease.owner]
        return Left(
            reading=tuple(sorted(lease.shard_id for lease in found.values() if _still_read(lease, shards))),
            without_lease=tuple(shard_id for shard_id in open_ids if shard_id not in found),
            without_owner=tuple(lease.shard_id for lease in leased if not lease.owner),
            handed_over=tuple(lease.shard_id for lease in owned if lease.draining_owner),
            not_seen_moving=tuple(
                lease.shard_id for lease in owned if not lease.draining_owner and lease.shard_id not in self._moving
            ),
        )

    def _note(self, lease: Lease) -> None:
        """A lease is moving if its counter rises under the same owner. After a change of owner, start again."""
        owner, counter = self._first.setdefault(lease.shard_id, (lease.owner, lease.counter))
        if owner != lease.owner:
            self._first[lease.shard_id] = (lease.owner, lease.counter)
            self._moving.discard(lease.shard_id)
        elif counter != lease.counter and lease.owner:
            self._moving.add(lease.shard_id)


def _still_read(lease: Lease, shards: Mapping[str, KnownShard]) -> bool:
    """Closed, still listed by Kinesis, and not at its end."""
    shard = shards.get(lease.shard_id)
    return shard is not None and not shard.open and not lease.ended
