"""Plans for a stream's shards, carried out on the local Kinesis with its limits."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.admin.shards import changes
from consumer.admin.shards.changes import (
    Merge,
    Refusal,
    ReshardPlan,
    ReshardRequest,
    ReshardStep,
    Scale,
    Split,
    StreamState,
)
from consumer.admin.shards.keyspace import halved, may_split, open_pieces, range_of, tiles, uniform
from consumer.admin.shards.planner import plan
from consumer.admin.shards.scaling import counts
from consumer.admin.shards.undo import request_back, undo_of
from consumer.aws.shards import KnownShard, of_listing
from tests.support.local_kinesis import Kinesis

DAY_S = 86_400


def state_of(kinesis: Kinesis, left: int | None = None) -> StreamState:
    shards = {shard["ShardId"]: of_listing(shard) for shard in kinesis.shards()}
    return StreamState("s", shards, recounts_left=left)


def make(kinesis: Kinesis, step: ReshardStep) -> None:
    """Calls of the executor; the local Kinesis refuses what AWS refuses."""
    if isinstance(step, changes.UpdateShardCount):
        kinesis.change("UpdateShardCount", TargetShardCount=step.count, ScalingType="UNIFORM_SCALING")
    elif isinstance(step, changes.SplitShard):
        kinesis.change("SplitShard", ShardToSplit=step.shard_id, NewStartingHashKey=str(step.at))
    else:
        kinesis.change("MergeShards", ShardToMerge=step.lower, AdjacentShardToMerge=step.upper)


def uneven(kinesis: Kinesis, seed: int) -> None:
    """Splits and merges, so that shards are not as they were created."""
    rng = random.Random(seed)
    for _ in range(rng.randrange(4)):
        pieces = open_pieces(state_of(kinesis).shards)
        place = rng.randrange(len(pieces))
        piece = pieces[place]
        if rng.random() < 0.6 or len(pieces) == 1:
            at = rng.randrange(piece.keys.first + 2, piece.keys.last)
            make(kinesis, changes.SplitShard(piece.shard_id, at))
        else:
            lower = min(place, len(pieces) - 2)
            make(kinesis, changes.MergeShards(pieces[lower].shard_id, pieces[lower + 1].shard_id))


def a_request(pieces: tuple[Any, ...], seed: int) -> ReshardRequest:
    rng = random.Random(seed)
    place = rng.randrange(len(pieces))
    piece = pieces[place]
    kind = rng.randrange(3)
    if kind == 0 or (kind == 2 and len(pieces) == 1):
        return Scale(rng.randrange(1, 41))
    if kind == 1:
        at = None if rng.random() < 0.5 else rng.randrange(piece.keys.first + 2, piece.keys.last)
        return Split(piece.shard_id, at)
    lower = min(place, len(pieces) - 2)
    ids = [pieces[lower].shard_id, pieces[lower + 1].shard_id]
    rng.shuffle(ids)
    return Merge(*ids)


@settings(max_examples=60)
@given(st.integers(1, 12), st.integers(0, 2**32))
def test_kinesis_accepts_a_plan_which_reaches_its_target_after_any_interruption(shards: int, seed: int) -> None:
    kinesis = Kinesis(shards, limits=True)
    uneven(kinesis, seed)
    request = a_request(open_pieces(state_of(kinesis).shards), seed)
    whole = plan(state_of(kinesis, 10), request)
    if isinstance(whole, Refusal):
        assert whole.kind == "nothing"
        return
    assert tiles(piece.keys for piece in whole.now)
    assert tiles(piece.keys for piece in whole.then)
    for done, step in enumerate(whole.steps):
        rest = plan(state_of(kinesis, 10 - done), request)
        assert isinstance(rest, ReshardPlan)
        assert rest.steps == whole.steps[done:]
        assert [piece.keys for piece in rest.then] == [piece.keys for piece in whole.then]
        make(kinesis, step)
        assert tiles(piece.keys for piece in open_pieces(state_of(kinesis).shards))
    ended = open_pieces(state_of(kinesis).shards)
    # UpdateShardCount need not hit the very key: the local one keeps a boundary that lies next to the wanted one.
    assert len(ended) == len(whole.then)
    assert all(abs(made.keys.first - said.keys.first) < 2**65 for made, said in zip(ended, whole.then, strict=True))
    again = plan(state_of(kinesis, 0), request)
    assert isinstance(again, Refusal)
    assert again.kind == "nothing"


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(0, 2**32))
def test_undoing_a_split_or_a_merge_restores_the_hash_keys_and_a_scale_the_count(shards: int, seed: int) -> None:
    kinesis = Kinesis(shards, limits=True)
    uneven(kinesis, seed)
    request = a_request(open_pieces(state_of(kinesis).shards), seed)
    planned = plan(state_of(kinesis, 10), request)
    if isinstance(planned, Refusal):
        return
    undo = undo_of("arn@1", "now", request, planned)
    made = planned.steps[: random.Random(seed).randrange(1, len(planned.steps) + 1)]
    for step in made:
        make(kinesis, step)  # a scale may have been interrupted
    back = request_back(undo, state_of(kinesis))
    assert not isinstance(back, Refusal)
    left = 10 - sum(isinstance(step, changes.UpdateShardCount) for step in made)
    returns = plan(state_of(kinesis, left), back)
    if isinstance(returns, Refusal):
        assert isinstance(request, Scale) and left < len(made)  # the day's calls are used up
        return
    for step in returns.steps:
        make(kinesis, step)
    ended = [piece.keys for piece in open_pieces(state_of(kinesis).shards)]
    assert len(ended) == len(undo.before)
    if not isinstance(request, Scale):
        assert tuple(ended) == undo.before
        again = request_back(undo, state_of(kinesis))
        assert isinstance(again, Refusal) and again.kind == "nothing"


def test_what_a_split_made_and_was_split_again_is_not_undone() -> None:
    kinesis = Kinesis(1, limits=True)
    request = Split(open_pieces(state_of(kinesis).shards)[0].shard_id)
    planned = plan(state_of(kinesis, 10), request)
    assert isinstance(planned, ReshardPlan)
    undo = undo_of("arn@1", "now", request, planned)
    make(kinesis, planned.steps[0])
    lower = open_pieces(state_of(kinesis).shards)[0]
    make(kinesis, changes.SplitShard(lower.shard_id, halved(lower.keys)))
    refused = request_back(undo, state_of(kinesis))
    assert isinstance(refused, Refusal) and refused.kind == "refused"


@settings(max_examples=30)
@given(st.integers(1, 12_000), st.integers(1, 12_000), st.one_of(st.none(), st.integers(0, 10)))
def test_no_step_is_beyond_what_kinesis_takes(now: int, target: int, left: int | None) -> None:
    shards = {
        str(number): KnownShard(str(number), hash_keys=(str(keys.first), str(keys.last)))
        for number, keys in enumerate(uniform(now))
    }
    found = plan(StreamState("s", shards, recounts_left=left, account_open=now, account_limit=11_000), Scale(target))
    if isinstance(found, Refusal):
        assert found.kind == ("nothing" if now == target else "refused")
        return
    assert 0 < len(found.steps) <= (10 if left is None else left)
    at = now
    for step in found.steps:
        assert isinstance(step, changes.UpdateShardCount)
        assert step.before == at
        assert at <= 2 * step.count
        assert step.count <= 2 * at
        assert step.count <= 10_000 or step.count < at
        at = step.count
    assert at == target <= max(11_000, now)


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_the_way_is_as_short_as_doubling_and_halving_allow(now: int, target: int) -> None:
    reach = [now, now]
    steps = 0
    while not reach[0] <= target <= reach[1]:
        reach = [(reach[0] + 1) // 2, 2 * reach[1]]
        steps += 1
    assert len(counts(now, target)) == max(steps, int(now != target))


@settings(max_examples=30)
@given(st.integers(1, 1_000))
def test_uniform_ranges_tile_and_their_halves_do(count: int) -> None:
    ranges = uniform(count)
    assert tiles(ranges)
    sizes = {keys.last - keys.first for keys in ranges}
    assert max(sizes) - min(sizes) <= 1
    assert all(may_split(keys, halved(keys)) for keys in ranges)


def test_a_missing_shard_is_a_user_error_that_names_existing_ones() -> None:
    kinesis = Kinesis(3)
    state = state_of(kinesis)
    first, second, third = (piece.shard_id for piece in open_pieces(state.shards))
    for request, said in (
        (Split("shardId-9"), "has no shard shardId-9"),
        (Split(first, 0), "is not inside"),
        (Merge(first, third), f"{first} lies beside {second}"),
        (Merge(first, first), "with itself"),
        (Merge(first, "x"), "has no shard x"),
        (Scale(0), "at least one"),
    ):
        found = plan(state, request)
        assert isinstance(found, Refusal)
        assert found.kind == "mistake"
        assert said in found.why


def test_a_closed_shard_is_named_with_its_children() -> None:
    kinesis = Kinesis(2)
    first, second = (piece.shard_id for piece in open_pieces(state_of(kinesis).shards))
    make(kinesis, changes.MergeShards(first, second))
    found = plan(state_of(kinesis), Split(first))
    assert isinstance(found, Refusal)
    assert found.kind == "mistake"
    assert "shardId-000000000002" in found.why
    again = plan(state_of(kinesis), Merge(second, first))
    assert isinstance(again, Refusal)
    assert (again.kind, "into shardId-000000000002" in again.why) == ("nothing", True)


def test_refusals_say_why_and_what_to_do() -> None:
    kinesis = Kinesis(4)
    shards = state_of(kinesis).shards
    for state, request, said in (
        (StreamState("s", shards, mode="ON_DEMAND"), Scale(8), "update-stream-mode"),
        (StreamState("s", shards, status="UPDATING"), Scale(8), "is UPDATING"),
        (StreamState("s", shards, recounts_left=0, next_recount="at 14:00 UTC"), Scale(8), "penstock shards split"),
        (StreamState("s", shards, recounts_left=2), Scale(64), "Scale to 16 now"),
        (StreamState("s", shards, account_open=10, account_limit=12), Scale(8), "Service Quotas"),
        (StreamState("s", shards, account_open=12, account_limit=12), Split("shardId-000000000000"), "Service Quotas"),
        (StreamState("s", shards), Scale(10_001), "10,000"),
    ):
        found = plan(state, request)
        assert isinstance(found, Refusal)
        assert found.kind == "refused"
        assert said in found.why


def test_predicted_shards_name_those_they_replace() -> None:
    kinesis = Kinesis(4)
    found = plan(state_of(kinesis), Scale(6))
    assert isinstance(found, ReshardPlan)
    parents = [[name[-1] for name in piece.parents] for piece in found.then]
    assert parents == [["0"], ["0", "1"], ["1"], ["2"], ["2", "3"], ["3"]]
    assert range_of(state_of(kinesis).shards["shardId-000000000000"]) == found.now[0].keys


def test_unknown_values_are_named_in_the_plan() -> None:
    shards = state_of(Kinesis(4)).shards
    unknown = plan(StreamState("s", shards), Scale(8))
    assert isinstance(unknown, ReshardPlan)
    assert any("24 hours are left is unknown" in note for note in unknown.notes)
    assert any("the account's quota of shards has room for more is unknown" in note for note in unknown.notes)
    known = plan(StreamState("s", shards, recounts_left=3, account_open=4, account_limit=100), Scale(8))
    assert isinstance(known, ReshardPlan)
    assert not any("unknown" in note for note in known.notes)
    assert known.notes[0].startswith("2 of 10 changes")
