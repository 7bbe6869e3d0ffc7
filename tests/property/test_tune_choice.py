"""For any model and machine: the choice is the fastest of the measured cells that meet the target."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumer.tuning.search import Combo, Search, TuningRun, best, combos, sizes

RATES = st.floats(0.1, 1e6)
CALLS = st.floats(1e-5, 2.0)


@given(
    st.integers(1, 16),
    st.integers(1, 100),
    st.sampled_from([0.0, 0.05, 1.0]),
    st.booleans(),
    st.sampled_from([0.0, 0.01, 1.0]),
    st.data(),
)
def test_nothing_that_kept_to_the_target_was_quicker_than_the_choice(
    cores: int, most: int, target_s: float, together: bool, each_s: float, data: st.DataObject
) -> None:
    search = Search(combos(cores), sizes(most), budget_s=20.0, target_s=target_s, together=together)
    done = 0
    runs = data.draw(st.lists(st.builds(TuningRun, RATES, CALLS), min_size=1, max_size=40))
    while cell := search.next(done * each_s):
        search.told(cell, runs[done * 7 % len(runs)])
        done += 1
    chosen = best(search.measured, target_s)
    for other in search.measured:
        if not target_s or other.call_s <= target_s:
            assert chosen.call_s <= target_s or not target_s
            assert other.records_per_s <= chosen.records_per_s
    assert done <= 7 * len(combos(cores)) * len(sizes(most))


@given(st.integers(1, 256), st.one_of(st.none(), st.integers(1, 8)), st.one_of(st.none(), st.integers(1, 8)))
def test_no_combination_has_more_threads_than_cores_unless_that_is_set(
    cores: int, replicas: int | None, threads: int | None
) -> None:
    found = combos(cores, replicas, threads)
    assert found == sorted(set(found)) and found
    for combo in found:
        assert replicas in (None, combo.replicas) and threads in (None, combo.threads)
        if replicas is None and threads is None:
            assert combo.replicas * combo.threads <= cores
    if replicas is None and threads is None:
        assert {Combo(1, cores), Combo(cores, 1)} <= set(found)
