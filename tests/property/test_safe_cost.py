"""The limit of a batch's cost, for any history of batches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.replicas.safe_cost import CREEP_PASSES, SafeCost

records = st.integers(1, 64)
costs = st.integers(1, 100_000)
told = st.one_of(
    st.tuples(st.just("ran out"), records, costs),
    st.tuples(st.just("passed"), records, costs),
    st.tuples(st.just("passed after"), records, costs),
)


def tell(safe: SafeCost, what: str, count: int, cost: int) -> None:
    if what == "ran out":
        safe.ran_out(count, cost)
    else:
        safe.passed(count, cost, after=what == "passed after")


@given(st.lists(told, max_size=60))
def test_it_is_at_most_half_of_what_just_ran_out(history: list[tuple[str, int, int]]) -> None:
    safe = SafeCost()
    for what, count, cost in history:
        before = safe.limit
        tell(safe, what, count, cost)
        assert safe.limit >= 0
        if what == "ran out" and count > 1:
            assert 1 <= safe.limit <= max(1, cost // 2)
        if what == "ran out" and count == 1:
            assert safe.limit == before


@given(st.lists(told, max_size=60))
def test_it_is_never_as_much_as_what_ran_out_unless_that_passed(history: list[tuple[str, int, int]]) -> None:
    safe = SafeCost()
    most = 0
    for what, count, cost in history:
        tell(safe, what, count, cost)
        most = max(most, cost) if what == "ran out" and count > 1 else most if safe.limit else 0
        assert safe.limit < max(2, most)


@given(st.lists(told, max_size=60))
def test_nothing_is_remembered_for_ever(history: list[tuple[str, int, int]]) -> None:
    """The limit grows by an eighth each time batches that use it pass, so it is dropped after a few
    thousand batches."""
    safe = SafeCost()
    for what, count, cost in history:
        tell(safe, what, count, cost)
    for _ in range(CREEP_PASSES * 120):
        if not safe.limit:
            break
        safe.passed(2, safe.limit)
    assert not safe.limit


@given(st.integers(1, 2_000), st.integers(2, 2_000))
def test_a_model_whose_memory_is_short_settles_near_what_fits(fits: int, wanted: int) -> None:
    safe = SafeCost()
    failures = 0
    done = 0
    for _ in range(1_000):
        cost = min(wanted, safe.limit or wanted)
        if cost > fits and cost > 1:
            failures += 1
            safe.ran_out(cost, cost)
        else:
            done += cost
            safe.passed(cost, cost)
    best = min(wanted, fits)
    assert failures <= 11 + 1_000 / CREEP_PASSES
    assert done >= 0.5 * best * (1_000 - failures)
