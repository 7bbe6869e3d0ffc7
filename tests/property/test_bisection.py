"""Bisection against an oracle that knows the bad records: who is blamed, and how many tries that takes (I5)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from math import ceil, log2

from hypothesis import given
from hypothesis import strategies as st

from pipeline.bisect import SPARE_TRIES, Bisection

RETRIES = 2


@dataclass
class Trial:
    """A bisection of ``size`` numbers, carried to its end."""

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
def test_the_bad_are_blamed_and_nobody_else(lot: tuple[int, set[int]], how: str, retries: int) -> None:
    size, bad = lot
    trial = Trial(size, fails_for(bad, how)).run(retries)
    assert trial.condemned == dict.fromkeys(bad, retries + 1)
    assert sorted(trial.passed) == sorted(set(range(size)) - bad)
    for item in bad:
        assert trial.tries.count([item]) == retries + 1


@given(lots)
def test_few_bad_records_cost_few_tries(lot: tuple[int, set[int]]) -> None:
    size, bad = lot
    extra = len(Trial(size, fails_for(bad)).run().tries) - 1
    searches = len(bad) * (ceil(log2(size)) + 2)
    assert extra <= (searches if searches <= size + SPARE_TRIES else 2 * size + SPARE_TRIES)


@given(any_lots, ways)
def test_many_bad_records_cost_no_more_than_twice_their_number(lot: tuple[int, set[int]], how: str) -> None:
    size, bad = lot
    assert len(Trial(size, fails_for(bad, how)).run().tries) <= 2 * size + SPARE_TRIES


@given(any_lots)
def test_the_deadly_are_tried_by_themselves_at_once(lot: tuple[int, set[int]]) -> None:
    """The replica dies once over the batch and once over each bad record, and never again."""
    size, bad = lot
    trial = Trial(size, fails_for(bad, "died")).run()
    deaths = [tried for tried in trial.tries if set(tried) & bad]
    assert len(deaths) <= 1 + len(bad)


@given(st.integers(1, 64), st.integers(1, 64))
def test_out_of_memory_condemns_nobody_who_fits_alone(size: int, fits: int) -> None:
    trial = Trial(size, lambda tried: "too_large" if len(tried) > fits else "passed").run()
    assert not trial.condemned
    assert sorted(trial.passed) == list(range(size))
    assert all(len(tried) <= max(fits, size) for tried in trial.tries)
    assert len([tried for tried in trial.tries if len(tried) > fits]) <= ceil(log2(size)) + 1


@given(any_lots, st.data())
def test_whatever_happens_everything_is_decided_once(lot: tuple[int, set[int]], data: st.DataObject) -> None:
    """Flaky models included: a verdict may be anything at any time."""
    size, _ = lot
    trial = Trial(size, lambda tried: data.draw(st.sampled_from(["passed", "failed", "died", "too_large"]))).run(1)
    assert sorted([*trial.passed, *trial.condemned]) == list(range(size))
