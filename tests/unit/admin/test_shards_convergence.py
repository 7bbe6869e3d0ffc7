"""When an application has followed a change of shards."""

from __future__ import annotations

from consumer.admin.shards.convergence import Convergence
from consumer.aws.shards import KnownShard
from consumer.leases.leases import Lease
from pipeline.record import Position

SPLIT = {
    "p": KnownShard("p", open=False),
    "a": KnownShard("a", ("p",)),
    "b": KnownShard("b", ("p",)),
}


def lease(shard_id: str, counter: int = 1, owner: str = "w", at: str = "", draining: str = "") -> Lease:
    return Lease(shard_id, owner, counter, None if at else Position(1, 0), at, (), (), draining)


def test_each_stage_of_a_split_is_named() -> None:
    converging = Convergence()
    assert str(converging.look(SPLIT, [lease("p")])) == "p closed, and not read to the end; a, b without a lease"
    ended = lease("p", at="SHARD_END")
    left = converging.look(SPLIT, [ended, lease("a", owner=""), lease("b", draining="v")])
    assert str(left) == "a without an owner; b being handed over"
    left = converging.look(SPLIT, [ended, lease("a"), lease("b", 2)])
    assert str(left) == "a owned, and not seen renewed yet"
    left = converging.look(SPLIT, [ended, lease("a", 2), lease("b", 3)])
    assert (left.count, str(left)) == (0, "every lease is owned and moving")


def test_a_lease_that_stands_still_or_changes_hands_is_not_moving() -> None:
    converging = Convergence()
    for counter, owner in ((5, "w"), (5, "w"), (105, "v")):
        assert converging.look(SPLIT, [lease("a", counter, owner), lease("b")]).not_seen_moving == ("a", "b")
    assert converging.look(SPLIT, [lease("a", 106, "v"), lease("b")]).not_seen_moving == ("b",)
    assert converging.look(SPLIT, [lease("a", 207, "w"), lease("b")]).not_seen_moving == ("a", "b")


def test_parents_that_kcl_has_deleted_and_shards_that_kinesis_has_forgotten_hold_nothing_up() -> None:
    converging = Convergence()
    converging.look(SPLIT, [lease("a"), lease("b")])
    assert converging.look(SPLIT, [lease("a", 2), lease("b", 2)]).count == 0
    assert converging.look(SPLIT, [lease("gone"), lease("a", 2), lease("b", 2)]).count == 0
