"""Plans the positions of an application's leases so that it reads again from a moment on. Pure.

Each rule prevents a loss that was observed with the real KCL:

- A checkpoint is written as (the last record before the moment, the largest sub-sequence number). If it named the first
  record to read, KCL would skip that record when its iterator expires.
- A child of a shard that is not read to its end is set to TRIM_HORIZON. If it were further on, KCL would consider its
  parent done, and delete the parent's lease while the parent is read.
- A lease only moves back. One that has not reached the moment yet stays where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from consumer.aws.shards import KnownShard
from consumer.leases.leases import Lease
from pipeline.record import LAST_SUB, Position

SHARD_END, TRIM_HORIZON, AT_TIMESTAMP, LATEST = "SHARD_END", "TRIM_HORIZON", "AT_TIMESTAMP", "LATEST"

Checkpoint = Position | str
"""A position after a record, or one of KCL's sentinels."""

EARLIEST_MS = 0
"""A moment before every record."""


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """A moment in a shard: the last record before it, and the first one at or after it, if any."""

    last_before: Position | None
    first_from: Position | None
    last_before_ms: int | None = None
    first_from_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """One lease: its position now and then. ``now`` is None if there is no lease and one is created."""

    shard_id: str
    now: Checkpoint | None
    then: Checkpoint


@dataclass(frozen=True, slots=True)
class Stay:
    """One lease that stays where it is, and why."""

    shard_id: str
    now: Checkpoint | None
    why: str


@dataclass(frozen=True, slots=True)
class Moves:
    """All leases of a stream's shards."""

    moves: tuple[Move, ...] = ()
    stays: tuple[Stay, ...] = ()


def back_to(
    known: Mapping[str, KnownShard],
    leases: Mapping[str, Lease],
    facts: Mapping[str, ShardFacts],
    *,
    moment_ms: int,
    start_ms: int | None = None,
) -> Moves:
    """Move leases back, so that everything from ``moment_ms`` on is read again, and nothing twice before it.

    :param facts: of every shard in ``known``.
    :param start_ms: where the application began, if it began at a time: what a lease at AT_TIMESTAMP means.
    """
    standings = {shard_id: standing(shard_id, known, leases) for shard_id in known}
    starts_before = start_ms is not None and start_ms <= moment_ms

    @cache
    def then(shard_id: str) -> Checkpoint | None:
        shard, now = known[shard_id], standings[shard_id]
        parents = [then(parent) for parent in shard.parents if parent in known]
        wanted = TRIM_HORIZON if any(parent != SHARD_END for parent in parents) else _place(shard, facts[shard_id])
        return now if now is None or _is_behind(now, wanted, starts_before=starts_before) else wanted

    moves, stays = [], []
    for shard_id in sorted(known):
        lease, target = leases.get(shard_id), then(shard_id)
        now = checkpoint_of(lease) if lease is not None else None
        if target is None or _same(standings[shard_id], target):
            if lease is not None:
                stays.append(Stay(shard_id, now, _why(now, facts[shard_id])))
        else:
            moves.append(Move(shard_id, now, target))
    return Moves((*moves, *_missing_parents(known, leases, moves)), tuple(stays))


def to_latest(known: Mapping[str, KnownShard], leases: Mapping[str, Lease], facts: Mapping[str, ShardFacts]) -> Moves:
    """Move every lease to its shard's end: the records between are passed over.

    :param facts: of every shard in ``known``, for a moment behind every record.
    """
    moves, stays = [], []
    for shard_id, shard in sorted(known.items()):
        lease = leases.get(shard_id)
        now = checkpoint_of(lease) if lease is not None else None
        target = _place(shard, facts[shard_id])
        if lease is None and target == SHARD_END:
            continue
        if now is not None and (_same(now, target) or (target == TRIM_HORIZON and now == AT_TIMESTAMP)):
            stays.append(Stay(shard_id, now, "it is at the end"))
        else:
            moves.append(Move(shard_id, now, target))
    return Moves(tuple(moves), tuple(stays))


def standing(shard_id: str, known: Mapping[str, KnownShard], leases: Mapping[str, Lease]) -> Checkpoint | None:
    """How far a shard is read: its checkpoint; SHARD_END if KCL has deleted its lease since; None: not started."""
    if shard_id in leases:
        return checkpoint_of(leases[shard_id])
    children = [child for child, shard in known.items() if shard_id in shard.parents]
    below = [standing(child, known, leases) for child in children]
    return SHARD_END if any(each is not None for each in below) else None


def checkpoint_of(lease: Lease) -> Checkpoint:
    """A lease's checkpoint: a position, or a sentinel."""
    return lease.checkpoint if lease.checkpoint is not None else lease.sentinel


def _place(shard: KnownShard, facts: ShardFacts) -> Checkpoint:
    """The position from which a shard is read from the moment on."""
    if not shard.open and facts.first_from is None:
        return SHARD_END
    if facts.last_before is None:
        return TRIM_HORIZON
    return Position(facts.last_before.sequence, LAST_SUB)


def _is_behind(now: Checkpoint, wanted: Checkpoint, *, starts_before: bool) -> bool:
    """Whether every record after ``wanted`` is also after ``now``, so that it will be read anyway."""
    if now == TRIM_HORIZON or wanted == SHARD_END:
        return True
    if now == AT_TIMESTAMP:
        return starts_before
    if isinstance(now, Position) and isinstance(wanted, Position):
        return now.sequence <= wanted.sequence
    return False


def _same(now: Checkpoint | None, then: Checkpoint) -> bool:
    if isinstance(now, Position) and isinstance(then, Position):
        return now.sequence == then.sequence
    return now == then


def _why(now: Checkpoint | None, facts: ShardFacts) -> str:
    if now == SHARD_END and facts.first_from is None:
        return "it has no record from that time on"
    return "it has not reached that time yet"


def _missing_parents(known: Mapping[str, KnownShard], leases: Mapping[str, Lease], moves: list[Move]) -> list[Move]:
    """Moves to SHARD_END for parents without a lease of shards that move: KCL needs the leases of both parents after a
    merge."""
    there = leases.keys() | {move.shard_id for move in moves}
    wanted = {
        parent for move in moves if move.then != SHARD_END for parent in known[move.shard_id].parents if parent in known
    }
    return [Move(parent, None, SHARD_END) for parent in sorted(wanted - there)]
