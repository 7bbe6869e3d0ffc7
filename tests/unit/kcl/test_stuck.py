"""Stuck shards are those that fall behind without progress, and no others."""

from hypothesis import given
from hypothesis import strategies as st

from consumer.kcl.session_snapshot import SILENT_S, SessionSnapshot
from consumer.kcl.stuck import StuckWatch

AFTER_S = 100.0


def look(
    now: float, *, progress: object = 0, lag_ms: int = 0, unsettled: int = 0, heard_s: float | None = None
) -> SessionSnapshot:
    return SessionSnapshot("shardId-0", progress, lag_ms, now if heard_s is None else heard_s, unsettled)


def test_a_shard_whose_lag_grows_without_progress_is_stuck_after_the_time_and_not_before() -> None:
    watch = StuckWatch(AFTER_S)
    assert not watch.look([look(0, lag_ms=1_000)], 0)
    assert not watch.look([look(99, lag_ms=100_000)], 99)
    reasons = watch.look([look(100, lag_ms=101_000)], 100)
    assert reasons == {"shardId-0": "shardId-0 is stuck: no progress for 100 s, 101 s behind, 0 records not settled"}


def test_progress_restarts_the_time_limit() -> None:
    watch = StuckWatch(AFTER_S)
    for now in range(0, 1000, 50):
        assert not watch.look([look(now, lag_ms=1_000 * now, progress=now // 50)], now)


def test_a_quiet_shard_is_never_stuck() -> None:
    watch = StuckWatch(AFTER_S)
    for now in range(0, 1000, 50):
        assert not watch.look([look(now)], now)


def test_records_that_never_settle_are_stuck_though_kcl_has_delivered_everything() -> None:
    watch = StuckWatch(AFTER_S)
    watch.look([look(0, unsettled=5)], 0)
    assert "5 records not settled" in watch.look([look(101, unsettled=5)], 101)["shardId-0"]


def test_a_shard_that_is_not_read_falls_behind_without_reports() -> None:
    """If too many records are in flight, the status is withheld, and KCL neither reads nor reports the lag."""
    watch = StuckWatch(AFTER_S)
    watch.look([look(0, lag_ms=500)], 0)
    reason = watch.look([look(100, lag_ms=500, heard_s=0)], 100)["shardId-0"]
    assert "nothing heard from KCL for 100 s" in reason


def test_a_shard_that_went_to_another_worker_is_forgotten() -> None:
    watch = StuckWatch(AFTER_S)
    watch.look([look(0, unsettled=1)], 0)
    assert not watch.look([], 50)
    assert not watch.look([look(101, unsettled=1)], 101)


looks = st.lists(
    st.tuples(st.floats(0.1, 60), st.integers(0, 3), st.integers(0, 100_000), st.integers(0, 2)),
    min_size=1,
    max_size=40,
)


@given(looks)
def test_nothing_is_stuck_that_progressed_within_the_time(steps: list[tuple[float, int, int, int]]) -> None:
    watch = StuckWatch(AFTER_S)
    now, changed, before = 0.0, 0.0, None
    for step_s, progress, lag_ms, unsettled in steps:
        now += step_s
        changed = now if progress != before else changed
        before = progress
        stuck = watch.look([look(now, progress=progress, lag_ms=lag_ms, unsettled=unsettled)], now)
        assert not stuck or now - changed >= AFTER_S
        assert stuck or now - changed < AFTER_S or not unsettled


def test_silence_counts_only_beyond_the_beat() -> None:
    assert look(0, lag_ms=7, heard_s=0).lag_at(SILENT_S) == 7
    assert look(0, lag_ms=7, heard_s=0).lag_at(SILENT_S + 1) == 7 + 1000 * (SILENT_S + 1)
