"""Plans the calls of UpdateShardCount that bring a stream to a number of shards. Pure.

Kinesis accepts a count of at most twice the present one and at least half of it, ten changes of the count in 24 hours,
and at most 10,000 shards (API reference of UpdateShardCount).
"""

from __future__ import annotations

from consumer.admin.shards.changes import Refusal, ReshardPlan, StreamState, UpdateShardCount
from consumer.admin.shards.keyspace import Piece, recounted
from pipeline.errors import counted

RECOUNTS_A_DAY = 10
"""Calls of UpdateShardCount that Kinesis accepts per stream in 24 hours."""

MOST_SHARDS = 10_000
"""The largest count that UpdateShardCount accepts."""


def counts(now: int, target: int) -> list[int]:
    """The counts of the calls: doubled or halved until the target is in reach, then the target."""
    way: list[int] = []
    while now != target:
        now = min(2 * now, target) if target > now else max((now + 1) // 2, target)
        way.append(now)
    return way


def scale(state: StreamState, now: tuple[Piece, ...], target: int) -> ReshardPlan | Refusal:
    """Return the steps from the open shards ``now`` to this number of shards."""
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
    return state.no_room(target - now)


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
        notes += state.quota_unknown()
    uneven = [step for step in steps if not _even(step.before, step.count)]
    if uneven:
        notes.append(
            "a count that neither doubles nor halves the present one creates temporary shards; they count against the "
            "account's quota, and the call takes longer"
        )
    return notes


def _even(before: int, count: int) -> bool:
    return count == 2 * before or before == 2 * count
