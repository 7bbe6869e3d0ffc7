"""Plans the calls that change a stream's shards as an operator asks, or explains why it cannot be done. Pure.

The limits are those of Kinesis's API reference (UpdateShardCount, SplitShard, MergeShards): a stream in provisioned
mode that is ACTIVE; a count of at most twice the present one and at least half of it; ten changes of the count in
24 hours; at most 10,000 shards; and the account's quota of shards. SplitShard and MergeShards do not count among the
ten changes.

Plans have no state: called again after an interruption, at any step, :func:`plan` returns the remaining steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from consumer.admin.shards.keyspace import (
    Piece,
    halved,
    may_split,
    open_pieces,
    range_of,
    recounted,
)
from consumer.aws.shards import KnownShard
from pipeline.errors import counted
from pipeline.kpl import HashRange

RECOUNTS_A_DAY = 10
"""Calls of UpdateShardCount that Kinesis takes per stream in 24 hours."""

MOST_SHARDS = 10_000
"""The largest count that UpdateShardCount accepts."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """The present state of a stream. None is unknown.

    ``shards``: all that Kinesis lists, with closed ones. ``recounts_left``: how many calls of UpdateShardCount are left
    at most, according to ``recounts_source``; ``next_recount``: when another one is possible, as text. ``account_open``
    and ``account_limit``: the account's open shards in the region, and their limit.
    """

    stream: str
    shards: Mapping[str, KnownShard]
    status: str = "ACTIVE"
    mode: str = "PROVISIONED"
    recounts_left: int | None = None
    recounts_source: str = ""
    next_recount: str = ""
    account_open: int | None = None
    account_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Scale:
    """A number of open shards of the same size."""

    count: int


@dataclass(frozen=True, slots=True)
class Split:
    """Two shards instead of one; the upper one starts ``at``, or in the middle.

    ``anywhere``: a shard that is already split needs no change, wherever it was split.
    """

    shard_id: str
    at: int | None = None
    anywhere: bool = False


@dataclass(frozen=True, slots=True)
class Merge:
    """One shard instead of two neighbours."""

    shard_id: str
    other_id: str


Wish = Scale | Split | Merge


@dataclass(frozen=True, slots=True)
class UpdateShardCount:
    """One call; ``before`` shards are open when it is made."""

    before: int
    count: int

    def __str__(self) -> str:
        return f"UpdateShardCount to {self.count:,} (from {self.before:,})"


@dataclass(frozen=True, slots=True)
class SplitShard:
    """One call."""

    shard_id: str
    at: int

    def __str__(self) -> str:
        return f"SplitShard {self.shard_id} at {self.at}"


@dataclass(frozen=True, slots=True)
class MergeShards:
    """One call; ``lower`` has the lower hash keys."""

    lower: str
    upper: str

    def __str__(self) -> str:
        return f"MergeShards {self.lower} with {self.upper}"


Step = UpdateShardCount | SplitShard | MergeShards


@dataclass(frozen=True, slots=True)
class ReshardPlan:
    """Calls in order, each made when the stream is ACTIVE again. ``then``: the open shards afterwards."""

    now: tuple[Piece, ...]
    steps: tuple[Step, ...]
    then: tuple[Piece, ...]
    notes: tuple[str, ...] = ()


Kind = Literal["mistake", "refused", "nothing"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no plan, and what to do instead.

    ``mistake``: the request names a shard that does not exist. ``refused``: Kinesis would refuse it, or it has no use.
    ``nothing``: the stream needs no change.
    """

    kind: Kind
    why: str


def plan(state: StreamState, wish: Wish) -> ReshardPlan | Refusal:
    """The steps that are left from ``state`` to the requested change."""
    if (why := _not_now(state)) is not None:
        return Refusal("refused", why)
    now = open_pieces(state.shards)
    if isinstance(wish, Scale):
        return _scale(state, now, wish.count)
    if isinstance(wish, Split):
        return _split(state, now, wish)
    return _merge(state, now, wish)


def counts(now: int, target: int) -> list[int]:
    """The counts to call with: doubled or halved until the target is in reach, then the target."""
    way: list[int] = []
    while now != target:
        now = min(2 * now, target) if target > now else max((now + 1) // 2, target)
        way.append(now)
    return way


def _not_now(state: StreamState) -> str | None:
    if state.mode != "PROVISIONED":
        return (
            f"stream {state.stream} is in on-demand mode: Kinesis scales it, and refuses to split, merge or scale its "
            "shards by hand. To do it yourself, switch the stream to provisioned mode first: "
            "aws kinesis update-stream-mode"
        )
    if state.status != "ACTIVE":
        return (
            f"stream {state.stream} is {state.status}, and Kinesis changes only the shards of an ACTIVE stream. Try "
            "again when it is ACTIVE; with --execute, the command waits for it"
        )
    return None


# -- scale


def _scale(state: StreamState, now: tuple[Piece, ...], target: int) -> ReshardPlan | Refusal:
    if target < 1:
        return Refusal("mistake", "a stream has at least one shard. Ask for 1 or more")
    if target == len(now):
        return Refusal("nothing", f"stream {state.stream} has {counted(target, 'open shard')} already")
    way = counts(len(now), target)
    if (why := _too_many(state, len(now), target)) or (why := _too_often(state, way)):
        return Refusal("refused", why)
    befores = [len(now), *way[:-1]]
    steps = tuple(UpdateShardCount(before, count) for before, count in zip(befores, way, strict=True))
    return ReshardPlan(now, steps, recounted(now, target), tuple(_notes(state, steps)))


def _too_many(state: StreamState, now: int, target: int) -> str | None:
    if target > MOST_SHARDS and target > now:
        return f"UpdateShardCount accepts {MOST_SHARDS:,} shards at most. Ask for no more"
    if now > MOST_SHARDS and counts(now, target)[0] >= MOST_SHARDS:
        return (
            f"UpdateShardCount takes a stream of {counted(now, 'shard')} only to less than {MOST_SHARDS:,}, and to no "
            "less than "
            "half. Merge single shards first: penstock shards merge"
        )
    return _no_room(state, target - now)


def _no_room(state: StreamState, more: int) -> str | None:
    if state.account_open is None or state.account_limit is None or more <= 0:
        return None
    room = state.account_limit - state.account_open
    if more <= room:
        return None
    return (
        f"that takes {counted(more, 'more shard')}, and the account has room for {max(0, room):,}: "
        f"{state.account_open:,} of "
        f"{state.account_limit:,} are open in this region. Raise the quota 'Shards per Region' in Service Quotas first"
    )


def _too_often(state: StreamState, way: list[int]) -> str | None:
    left = RECOUNTS_A_DAY if state.recounts_left is None else min(state.recounts_left, RECOUNTS_A_DAY)
    if len(way) <= left:
        return None
    named = ", ".join(f"{count:,}" for count in way)
    when = f" (the next one {state.next_recount})" if state.next_recount else ""
    why = (
        f"that takes {counted(len(way), 'call')} of UpdateShardCount, to {named}, since one call at most doubles or "
        "halves the count; "
        f"Kinesis takes {RECOUNTS_A_DAY} in 24 hours, of which {left} are left{when}. "
    )
    if left:
        return f"{why}Scale to {way[left - 1]:,} now, and on when more calls are left"
    return f"{why}Until then, split single shards, which does not count: penstock shards split"


def _notes(state: StreamState, steps: tuple[UpdateShardCount, ...]) -> list[str]:
    notes = []
    if state.recounts_left is None:
        why = f": {state.recounts_source}" if state.recounts_source else ""
        notes.append(f"how many of the {RECOUNTS_A_DAY} changes of the count in 24 hours are left is unknown{why}")
    else:
        left = state.recounts_left - len(steps)
        source = f" ({state.recounts_source})" if state.recounts_source else ""
        notes.append(f"{left} of {RECOUNTS_A_DAY} changes of the count in 24 hours are left afterwards{source}")
    if steps[-1].count > steps[0].before:
        notes += _quota_unknown(state)
    uneven = [step for step in steps if not _even(step.before, step.count)]
    if uneven:
        notes.append(
            "a count that neither doubles nor halves the present one creates temporary shards; they count against the "
            "account's quota, and the call takes longer"
        )
    return notes


def _quota_unknown(state: StreamState) -> list[str]:
    if state.account_open is not None and state.account_limit is not None:
        return []
    return [
        "whether the account's quota of shards has room for more is unknown: kinesis:DescribeLimits cannot be called"
    ]


def _even(before: int, count: int) -> bool:
    return count == 2 * before or before == 2 * count


# -- split


def _split(state: StreamState, now: tuple[Piece, ...], wish: Split) -> ReshardPlan | Refusal:
    shard = state.shards.get(wish.shard_id)
    if shard is None:
        return _unknown(state, wish.shard_id)
    keys = range_of(shard)
    at = halved(keys) if wish.at is None else wish.at
    if not shard.open:
        return _split_already(state, shard, None if wish.anywhere else at)
    if not may_split(keys, at):
        return Refusal("mistake", f"{at} is not inside {wish.shard_id}. Give a hash key between {_inside(keys)}")
    if (why := _no_room(state, 1)) is not None:
        return Refusal("refused", why)
    halves = (
        Piece(HashRange(keys.first, at - 1), "", (wish.shard_id,)),
        Piece(HashRange(at, keys.last), "", (wish.shard_id,)),
    )
    place = next(number for number, piece in enumerate(now) if piece.shard_id == wish.shard_id)
    then = (*now[:place], *halves, *now[place + 1 :])
    notes = (*_quota_unknown(state), "to undo it, merge the two new shards: penstock shards merge")
    return ReshardPlan(now, (SplitShard(wish.shard_id, at),), then, notes)


def _inside(keys: HashRange) -> str:
    return f"{keys.first + 2} and {keys.last - 1}"


def _split_already(state: StreamState, shard: KnownShard, at: int | None) -> Refusal:
    """A closed shard: already split as requested, or closed by something else."""
    children = sorted(_children(state, shard.shard_id), key=range_of)
    if len(children) == 2 and at in {None, range_of(children[1]).first}:
        return Refusal("nothing", f"{shard.shard_id} is split already: {_into(children)}")
    return Refusal("mistake", f"{shard.shard_id} is closed: {_into(children) or 'split or merged before'}")


def _children(state: StreamState, shard_id: str) -> list[KnownShard]:
    return [shard for shard in state.shards.values() if shard_id in shard.parents]


def _into(children: list[KnownShard]) -> str:
    return f"its records go to {' and '.join(child.shard_id for child in children)} now" if children else ""


# -- merge


def _merge(state: StreamState, now: tuple[Piece, ...], wish: Merge) -> ReshardPlan | Refusal:
    ids = (wish.shard_id, wish.other_id)
    for shard_id in ids:
        if shard_id not in state.shards:
            return _unknown(state, shard_id)
    if wish.shard_id == wish.other_id:
        return Refusal("mistake", "a shard cannot be merged with itself. Name two neighbours")
    lower, upper = sorted((state.shards[shard_id] for shard_id in ids), key=range_of)
    if not (lower.open and upper.open):
        return _merged_already(state, lower, upper)
    if range_of(lower).last + 1 != range_of(upper).first:
        return Refusal("mistake", f"{lower.shard_id} and {upper.shard_id} are not neighbours. {_beside(now, ids)}")
    whole = Piece(HashRange(range_of(lower).first, range_of(upper).last), "", (lower.shard_id, upper.shard_id))
    place = next(number for number, piece in enumerate(now) if piece.shard_id == lower.shard_id)
    undo = f"to undo it, split the new shard: penstock shards split SHARD --at {range_of(upper).first}"
    return ReshardPlan(
        now, (MergeShards(lower.shard_id, upper.shard_id),), (*now[:place], whole, *now[place + 2 :]), (undo,)
    )


def _merged_already(state: StreamState, lower: KnownShard, upper: KnownShard) -> Refusal:
    both = {lower.shard_id, upper.shard_id}
    for shard in state.shards.values():
        if set(shard.parents) == both:
            return Refusal("nothing", f"the two are merged already, into {shard.shard_id}")
    closed = lower if not lower.open else upper
    into = _into(_children(state, closed.shard_id)) or "split or merged before"
    return Refusal("mistake", f"{closed.shard_id} is closed: {into}. Name open shards")


def _beside(now: tuple[Piece, ...], ids: tuple[str, str]) -> str:
    said = []
    for place, piece in enumerate(now):
        if piece.shard_id in ids:
            beside = [now[other].shard_id for other in (place - 1, place + 1) if 0 <= other < len(now)]
            said.append(f"{piece.shard_id} lies beside {' and '.join(beside)}")
    return "; ".join(said)


def _unknown(state: StreamState, shard_id: str) -> Refusal:
    return Refusal("mistake", f"stream {state.stream} has no shard {shard_id}. penstock shards list names them")
