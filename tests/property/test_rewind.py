"""Leases are moved back on any lineage, from any position of the application: exactly the wanted records are read."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given

from consumer.admin.replay.rewind import (
    AT_TIMESTAMP,
    SHARD_END,
    TRIM_HORIZON,
    Moves,
    back_to,
    checkpoint_of,
    to_latest,
)
from consumer.leases.leases import Lease
from pipeline.record import LAST_SUB, Position
from tests.support.lineages import Stream, cases, lease


def moved(stream: Stream, leases: Mapping[str, Lease], moves: Moves) -> dict[str, Lease]:
    there = dict(leases)
    for move in moves.moves:
        assert (move.now is None) == (move.shard_id not in leases)
        there[move.shard_id] = lease(stream.shards[move.shard_id], move.then)
    return there


def to_be_read(stream: Stream, leases: Mapping[str, Lease]) -> set[int]:
    """What KCL will read: leases that are not done, and from their beginning the children of shards that end."""
    found, leased = set(), dict(leases)
    for shard_id in stream.shards:  # parents come before their children
        if shard_id in leased and not leased[shard_id].ended:
            at = checkpoint_of(leased[shard_id])
            after = at.sequence if isinstance(at, Position) else -1
            found |= {number for number in stream.records[shard_id] if number > after}
            for child in stream.children(shard_id):
                leased.setdefault(child, lease(stream.shards[child], TRIM_HORIZON))
    return found


@given(cases())
def test_after_a_rewind_unread_records_and_all_from_the_moment_on_are_read(
    case: tuple[Stream, dict[str, Lease], int],
) -> None:
    stream, leases, moment = case
    moves = back_to(stream.shards, leases, stream.facts(moment), moment_ms=moment, start_ms=-1)
    from_then_on = {number for numbers in stream.records.values() for number in numbers if 10 * number >= moment}
    begun = {each for each in from_then_on if each not in to_be_read(stream, leases)}
    assert to_be_read(stream, moved(stream, leases, moves)) == to_be_read(stream, leases) | begun


@given(cases())
def test_no_lease_moves_forward_and_no_child_stands_beyond_a_parent_that_is_not_read(
    case: tuple[Stream, dict[str, Lease], int],
) -> None:
    stream, leases, moment = case
    moves = back_to(stream.shards, leases, stream.facts(moment), moment_ms=moment, start_ms=-1)
    after = moved(stream, leases, moves)
    for move in moves.moves:
        if isinstance(move.now, Position) and isinstance(move.then, Position):
            assert move.then.sequence < move.now.sequence
        assert move.now != TRIM_HORIZON
        assert move.then != SHARD_END or move.now is None
    for shard_id, shard in stream.shards.items():
        unread = [parent for parent in shard.parents if parent in after and not after[parent].ended]
        if unread and shard_id in after:
            assert checkpoint_of(after[shard_id]) in (TRIM_HORIZON, AT_TIMESTAMP)


@given(cases())
def test_both_parents_of_a_merge_that_is_read_again_have_leases(case: tuple[Stream, dict[str, Lease], int]) -> None:
    stream, leases, moment = case
    moves = back_to(stream.shards, leases, stream.facts(moment), moment_ms=moment, start_ms=-1)
    after = moved(stream, leases, moves)
    for move in moves.moves:
        if move.then != SHARD_END:
            assert after.keys() >= set(stream.shards[move.shard_id].parents)


@given(cases())
def test_moving_twice_moves_nothing(case: tuple[Stream, dict[str, Lease], int]) -> None:
    stream, leases, moment = case
    facts = stream.facts(moment)
    after = moved(stream, leases, back_to(stream.shards, leases, facts, moment_ms=moment, start_ms=-1))
    assert back_to(stream.shards, after, facts, moment_ms=moment, start_ms=-1).moves == ()


@given(cases())
def test_at_the_latest_nothing_is_left_to_read(case: tuple[Stream, dict[str, Lease], int]) -> None:
    stream, leases, _ = case
    moves = to_latest(stream.shards, leases, stream.facts(10**9))
    assert to_be_read(stream, moved(stream, leases, moves)) == set()


def test_the_lease_of_a_parent_that_was_read_before_is_created_beside_the_other() -> None:
    stream = Stream()
    one, other = stream.open(), stream.open()
    stream.records[one], stream.records[other] = [1], [2, 5]
    child = stream.open(one, other)
    stream.records[child] = [6]
    leases = {child: lease(stream.shards[child], Position(6, 0))}
    moves = back_to(stream.shards, leases, stream.facts(50), moment_ms=50)
    assert {move.shard_id: move.then for move in moves.moves} == {
        one: SHARD_END,
        other: Position(2, LAST_SUB),
        child: TRIM_HORIZON,
    }
