"""The progress of shards, and the batches in the model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.flow.progress import LEAST_S, WINDOW_S, BatchOut, Progress, ShardPace, slope


def test_rates_and_slope_are_of_the_last_two_minutes() -> None:
    progress = Progress()
    for second in range(0, 601, 5):
        progress.received("a", 50, second)
        progress.settled("a", 40 if second > 300 else 0)
        progress.sample("a", float(second), second)
    pace = progress.pace("a", 600)
    assert pace is not None and pace.slope is not None
    assert pace == ShardPace(121 * 50, 60 * 40, 8, None, pace.slope, 0), "it falls behind as fast as time passes"
    assert pace.slope == pytest.approx(1)


@given(st.floats(0.5, 200), st.floats(0.1, 1))
def test_the_arrival_rate_is_that_of_the_producers_and_not_that_of_the_reading(put: float, share: float) -> None:
    """The model settles a share of what is put; the rest waits, and the shard falls behind."""
    progress = Progress()
    settled = 0
    for second in range(0, 3_600, 5):
        done = int(second * put * share)
        progress.received("a", done - settled, second)
        progress.settled("a", done - settled)
        settled = done
        progress.sample("a", second - settled / put, second)
    pace = progress.pace("a", 3_595)
    assert pace is not None
    if 120 * share > 2 * LEAST_S:
        assert pace.arrival_rate == pytest.approx(put, rel=0.01)
    assert pace.rate == pytest.approx(put * share, rel=0.2, abs=0.02)


def test_an_unknown_value_is_none() -> None:
    progress = Progress()
    assert progress.pace("a", 0) is None
    progress.sample("a", 3, 0)
    assert progress.pace("a", LEAST_S - 1) == ShardPace(0, 0, None, None, None, LEAST_S - 1)


def test_a_shard_that_moved_away_is_forgotten() -> None:
    progress = Progress()
    progress.received("a", 1, 0)
    progress.forget("a")
    assert progress.pace("a", 1) is None


def test_a_shard_without_records_is_idle_since_the_task_has_it() -> None:
    progress = Progress()
    progress.sample("a", 0, 10)
    progress.sample("a", 0, 40)
    before = progress.pace("a", 50)
    progress.received("a", 1, 60)
    after = progress.pace("a", 65)
    assert before is not None and after is not None
    assert (before.idle_s, after.idle_s) == (40, 5)


def test_records_that_settle_after_their_shard_has_moved_away_do_not_bring_it_back() -> None:
    progress = Progress()
    progress.received("a", 2, 0)
    progress.forget("a")
    progress.settled("a", 2)
    assert progress.pace("a", 9) is None


def test_memory_is_bounded() -> None:
    progress = Progress()
    for second in range(0, 100_000, 5):
        progress.sample("a", 0, second)
    assert len(progress._shards["a"].samples) <= WINDOW_S / 5 + 1


def test_the_batches_that_are_out_and_which_of_them_are_tried_in_parts() -> None:
    progress = Progress()
    with progress.batch(["a", "b"], 0), progress.batch(["c"], 2):
        progress.tried_again(["b"])
        progress.tried_again([])
        assert progress.batches(5) == [BatchOut(("a", "b"), 5, 1), BatchOut(("c",), 3, 0)]
    assert progress.batches(6) == []


def test_a_batch_that_fails_is_out_no_more() -> None:
    progress = Progress()
    with pytest.raises(RuntimeError), progress.batch(["a"], 0):
        raise RuntimeError
    assert progress.batches(1) == []


@given(st.floats(-5, 5), st.floats(-100, 100), st.lists(st.floats(0, 600), min_size=2, unique=True))
def test_a_line_has_its_slope(rise: float, start: float, times: list[float]) -> None:
    times.sort()
    found = slope([(at, start + rise * at) for at in times])
    if times[-1] - times[0] < LEAST_S:
        assert found is None
    else:
        assert found == pytest.approx(rise, abs=1e-6)
