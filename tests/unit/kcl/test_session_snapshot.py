"""What a session says about itself: how far it is behind, and what it holds."""

from __future__ import annotations

from consumer.kcl.session_snapshot import SILENT_S, SessionSnapshot

NOW, WALL_S = 1_000.0, 1_800_000_000.0
SEEN = SessionSnapshot("shardId-0", 0, 2_500, NOW, 3, held_bytes=70, accepted_s=NOW - 4)


def test_the_figures_of_a_session_are_those_of_stats() -> None:
    assert SEEN.counts(NOW) == {"unsettled": 3, "held_bytes": 70, "lag_s": 2.5, "checkpoint_age_s": 4.0}


def test_a_session_without_a_checkpoint_has_no_age_and_one_that_is_closed_no_figures() -> None:
    assert SessionSnapshot("shardId-0", 0, 0, NOW, 0).counts(NOW)["checkpoint_age_s"] is None
    assert SessionSnapshot("shardId-0", 0, 0, NOW, 0, is_open=False).counts(NOW) == {}


def test_a_shard_is_as_far_behind_as_its_oldest_record_or_its_lag() -> None:
    old = SessionSnapshot("shardId-0", 0, 2_500, NOW, 1, oldest_ms=1000 * (WALL_S - 9))
    young = SessionSnapshot("shardId-0", 0, 2_500, NOW, 1, oldest_ms=1000 * (WALL_S - 1))
    assert (old.behind_s(NOW, WALL_S), young.behind_s(NOW, WALL_S)) == (9.0, 2.5)
    assert young.behind_s(NOW + SILENT_S + 1, WALL_S) == 2.5 + SILENT_S + 1, "KCL is silent"
