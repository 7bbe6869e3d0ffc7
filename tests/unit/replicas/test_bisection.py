"""Bisection, step by step."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.replicas.bisection import Bisection


def tries(size: int, fails: Callable[[list[int]], bool], retries: int = 0) -> list[list[int]]:
    bisection = Bisection(range(size), retries)
    made = []
    while tried := bisection.next():
        made.append(tried)
        if fails(tried):
            bisection.failed()
        else:
            bisection.passed()
    return made


def test_a_good_batch_is_tried_once() -> None:
    assert tries(4, lambda tried: False) == [[0, 1, 2, 3]]


def test_nothing_is_nothing_to_try() -> None:
    assert tries(0, lambda tried: False) == []


def test_the_half_that_passed_convicts_the_other() -> None:
    assert tries(8, lambda tried: 6 in tried) == [[*range(8)], [0, 1, 2, 3], [4, 5], [6], [7]]


def test_items_that_the_search_skipped_are_tried_together() -> None:
    assert tries(8, lambda tried: 0 in tried) == [[*range(8)], [0, 1, 2, 3], [0, 1], [0], [1, 2, 3, 4, 5, 6, 7]]


def test_a_single_record_is_tried_again_before_it_is_given_up() -> None:
    bisection = Bisection(["bad"], retries=2)
    ends = []
    attempts = []
    while bisection.next():
        attempts.append(bisection.attempts)
        ends.append(bisection.failed())
    assert attempts == [1, 2, 3]
    assert ends == [None, None, 3]


def test_attempts_are_counted_per_record() -> None:
    bisection = Bisection("ab", retries=1)
    bisection.next()
    bisection.died()
    assert (bisection.next(), bisection.died(), bisection.next(), bisection.died()) == (["a"], None, ["a"], 2)
    assert (bisection.next(), bisection.attempts) == (["b"], 1)


def test_only_tried_items_are_suspects_after_a_death() -> None:
    bisection = Bisection(range(8), retries=0)
    bisection.next()
    bisection.failed()
    assert bisection.next() == [0, 1, 2, 3]
    bisection.died()
    alone = []
    for _ in range(4):
        alone.append(bisection.next())
        bisection.passed()
    assert alone == [[0], [1], [2], [3]]
    assert bisection.next() == [4, 5, 6, 7]
