"""Bisection compared with an oracle that knows the bad records: which are blamed, and how many tries that
takes (I5)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import combinations
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.replicas.bisection import SPARE_TRIES, Bisection

RETRIES = 2


@dataclass
class Trial:
    """A bisection of ``size`` numbers, run to its end."""

    size: int
    verdict: Callable[[list[int]], str]
    tries: list[list[int]] = field(default_factory=list)
    passed: list[int] = field(default_factory=list)
    condemned: dict[int, int] = field(default_factory=dict)

    def run(self, retries: int = 0) -> Trial:
        bisection = Bisection(range(self.size), retries)
        while tried := bisection.next():
            self.tries.append(tried)
            assert len(self.tries) <= 10 * self.size * (retries + 1), "it does not end"
            verdict = self.verdict(tried)
            if verdict == "passed":
                self.passed += tried
                bisection.passed()
            elif (attempts := getattr(bisection, verdict)()) is not None:
                (item,) = tried
                self.condemned[item] = attempts
        return self


def fails_for(bad: Collection[int], how: str = "failed") -> Callable[[list[int]], str]:
    return lambda tried: how if set(bad) & set(tried) else "passed"


lots = st.integers(1, 300).flatmap(
    lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1), max_size=12))
)
any_lots = st.integers(1, 64).flatmap(lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1))))
ways = st.sampled_from(["failed", "died"])


@given(any_lots, ways, st.integers(0, RETRIES))
def test_only_bad_records_are_blamed(lot: tuple[int, set[int]], how: str, retries: int) -> None:
    size, bad = lot
    trial = Trial(size, fails_for(bad, how)).run(retries)
    assert trial.condemned == dict.fromkeys(bad, retries + 1)
    assert sorted(trial.passed) == sorted(set(range(size)) - bad)
    for item in bad:
        assert trial.tries.count([item]) == retries + 1


def extra(size: int, bad: Collection[int]) -> int:
    """Number of tries besides that of the batch."""
    return len(Trial(size, fails_for(bad)).run().tries) - 1


@given(lots)
def test_few_bad_records_cost_few_tries(lot: tuple[int, set[int]]) -> None:
    size, bad = lot
    searches = len(bad) * (ceil(log2(size)) + 2)
    assert extra(size, bad) <= (searches if searches <= size + SPARE_TRIES else 2 * size + SPARE_TRIES)


@pytest.mark.parametrize("bad", [1, 2, 3, 4, 5, 6, 7, 8])
def test_the_bound_is_exact(bad: int) -> None:
    """The worst set of bad records is the one that has every second place of the rest."""
    assert extra(64, range(1, 2 * bad, 2)) == bad * 8


def test_one_bad_record_costs_seven_and_a_half_tries_among_64() -> None:
    costs = [extra(64, {place}) for place in range(64)]
    assert max(costs) == 8
    assert sum(costs) / 64 < 7.5


def test_two_bad_records_never_cost_more_than_twice_one() -> None:
    assert max(extra(64, pair) for pair in combinations(range(64), 2)) == 16


@given(any_lots, ways)
def test_many_bad_records_cost_no_more_than_twice_their_number(lot: tuple[int, set[int]], how: str) -> None:
    size, bad = lot
    assert len(Trial(size, fails_for(bad, how)).run().tries) <= 2 * size + SPARE_TRIES


@given(any_lots)
def test_the_deadly_are_tried_by_themselves_at_once(lot: tuple[int, set[int]]) -> None:
    """The replica dies once with the batch and once with each bad record, and not again."""
    size, bad = lot
    trial = Trial(size, fails_for(bad, "died")).run()
    deaths = [tried for tried in trial.tries if set(tried) & bad]
    assert len(deaths) <= 1 + len(bad)


@given(st.integers(1, 64), st.integers(1, 64))
def test_running_out_of_memory_blames_no_record_that_fits_alone(size: int, fits: int) -> None:
    trial = Trial(size, lambda tried: "too_large" if len(tried) > fits else "passed").run()
    assert not trial.condemned
    assert sorted(trial.passed) == list(range(size))
    assert all(len(tried) <= max(fits, size) for tried in trial.tries)
    assert len([tried for tried in trial.tries if len(tried) > fits]) <= 2 * ceil(log2(size))


@given(st.integers(1, 128).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1))), st.booleans())
def test_one_large_record_makes_no_small_tries_of_the_others(lot: tuple[int, int], alone: bool) -> None:
    """Neither an item that fits only alone, nor one that never fits."""
    size, large = lot

    def verdict(tried: list[int]) -> str:
        return "too_large" if large in tried and (alone or len(tried) > 1) else "passed"

    trial = Trial(size, verdict).run()
    assert trial.condemned == ({large: 1} if alone else {})
    assert sorted([*trial.passed, *trial.condemned]) == list(range(size))
    assert len(trial.tries) <= 3 * ceil(log2(size)) + 3


@given(st.lists(st.integers(1, 20), min_size=1, max_size=64), st.integers(1, 200))
def test_running_out_of_memory_ends_for_any_sizes_of_records(sizes: list[int], memory: int) -> None:
    trial = Trial(len(sizes), lambda tried: "too_large" if sum(sizes[n] for n in tried) > memory else "passed").run()
    assert trial.condemned == {n: 1 for n, size in enumerate(sizes) if size > memory}
    assert len(trial.tries) <= 2 * len(sizes) + SPARE_TRIES


@given(any_lots, st.integers(0, RETRIES), st.integers(1, 5))
def test_excused_items_are_tried_again(lot: tuple[int, set[int]], retries: int, excuses: int) -> None:
    """The device is lost for this many tries, whatever is tried; then only with the bad records."""
    size, bad = lot
    bisection = Bisection(range(size), retries)
    condemned: dict[int, int] = {}
    passed: list[int] = []
    while tried := bisection.next():
        if not excuses and not bad & set(tried):
            passed += tried
            bisection.passed()
        elif (attempts := bisection.died()) is not None and excuses:
            excuses -= 1
            bisection.excused()
        elif attempts is not None:
            condemned[tried[0]] = attempts
    assert condemned == dict.fromkeys(bad, retries + 1)
    assert sorted(passed) == sorted(set(range(size)) - bad)


@given(any_lots, st.data())
def test_everything_is_decided_once_for_any_results(lot: tuple[int, set[int]], data: st.DataObject) -> None:
    """Also for flaky models: any try may have any result."""
    size, _ = lot
    trial = Trial(size, lambda tried: data.draw(st.sampled_from(["passed", "failed", "died", "too_large"]))).run(1)
    assert sorted([*trial.passed, *trial.condemned]) == list(range(size))
