"""Where workers began after a rewind, against where they should have."""

from __future__ import annotations

from consumer.admin.replay.rewind import Move
from consumer.admin.replay.rewind_check import RewindCheck, RewindWatch
from pipeline.record import LAST_SUB, Position

MOVES = (
    Move("s0", Position(900, 0), Position(500, LAST_SUB)),
    Move("s1", "SHARD_END", "TRIM_HORIZON"),
    Move("s2", None, "SHARD_END"),
)


def test_shards_that_begin_at_their_targets_are_right() -> None:
    watch = RewindWatch(MOVES)
    assert watch.look({}) == RewindCheck((), {}, ("s0", "s1")), "nobody reads a shard at its end"
    assert watch.look({"s0": f"500/{LAST_SUB}"}) == RewindCheck(("s0",), {}, ("s1",))
    assert watch.look({"s0": "700/0", "s1": "TRIM_HORIZON"}).all_right, "s0 was handed over since"


def test_a_shard_that_begins_where_its_lease_was_before_is_wrong() -> None:
    watch = RewindWatch(MOVES)
    found = watch.look({"s0": "900/0", "s1": "", "other": "1/0"})
    assert found == RewindCheck((), {"s0": "900/0"}, ("s1",))
    assert not found.all_right
    assert watch.look({"s0": f"500/{LAST_SUB}"}).wrong == {}, "the worker lost it, and began again"
