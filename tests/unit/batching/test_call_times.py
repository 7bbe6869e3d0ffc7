"""The duration of a predict call, learned from calls."""

from __future__ import annotations

import random

import pytest

from pipeline.batching.call_times import BLOCK, CallTimeModel, Line, Rate


def test_nothing_is_said_before_a_few_calls() -> None:
    fit = CallTimeModel()
    for size in (1, 2, 3):
        fit.add(size, size, 0.1)
    assert fit.line is None


def test_a_line_is_found_exactly() -> None:
    fit = CallTimeModel()
    for records, cost in [(1, 9), (2, 60), (8, 70), (4, 400), (16, 33), (3, 5)]:
        fit.add(records, cost, 0.01 + 0.002 * records + 0.0003 * cost)
    assert fit.line is not None
    assert fit.line.seconds(10, 100) == pytest.approx(0.06, rel=1e-3)


def test_costs_of_records_are_separated_from_the_cost_of_the_call() -> None:
    fit = CallTimeModel()
    for records in (1, 2, 4, 8, 16, 32):
        fit.add(records, records, 0.05 + 0.01 * records)
    assert fit.line is not None
    assert fit.line.call_s == pytest.approx(0.05, rel=0.02)
    assert fit.line.seconds(64, 64) == pytest.approx(0.69, rel=0.02)


def test_no_coefficient_is_negative() -> None:
    fit = CallTimeModel()
    for records in (1, 2, 4, 8, 16):
        fit.add(records, records, 0.01 * records**1.5)
    line = fit.line
    assert line is not None
    assert min(line.call_s, line.record_s, line.cost_s) >= 0


def learned(seconds: list[float], sizes: list[int]) -> Line:
    fit = CallTimeModel()
    for size, taken in zip(sizes, seconds, strict=True):
        fit.add(size, size, taken)
    assert fit.line is not None
    return fit.line


def test_pauses_and_a_slow_beginning_bend_it_little() -> None:
    dice = random.Random(5)
    sizes = [dice.randint(1, 32) for _ in range(200)]
    honest = [0.02 + 0.01 * size for size in sizes]
    noisy = [taken * dice.uniform(0.95, 1.05) for taken in honest]
    for place in range(20):
        noisy[place] *= 3
    for place in dice.sample(range(60, 200), 10):
        noisy[place] += 1.0
    line = learned(noisy, sizes)
    for size in (4, 16, 32):
        assert line.seconds(size, size) == pytest.approx(0.02 + 0.01 * size, rel=0.1)


def test_a_machine_that_changes_is_followed() -> None:
    dice = random.Random(6)
    sizes = [dice.randint(1, 32) for _ in range(600)]
    taken = [(0.02 + 0.01 * size) * (2 if place >= 200 else 1) for place, size in enumerate(sizes)]
    assert learned(taken, sizes).seconds(16, 16) == pytest.approx(0.36, rel=0.1)


def test_a_rate_is_that_of_undisturbed_calls() -> None:
    """Records differ, and another program runs half of the time."""
    dice, rate = random.Random(7), Rate()
    assert rate.best is None
    for call in range(40 * BLOCK):
        busy = 2.0 if call // (10 * BLOCK) % 2 else 1.0
        rate.add(8, busy * sum(dice.expovariate(100) for _ in range(8)))
    assert rate.best == pytest.approx(100, rel=0.1)


def test_a_new_rate_keeps_the_earlier_one_until_it_has_a_mean() -> None:
    """The first batches after a change of size may happen to have short texts."""
    rate = Rate(before=100.0)
    for _ in range(BLOCK - 1):
        rate.add(8, 0.01)
    assert rate.best == 100.0
    rate.add(8, 0.01)
    assert rate.best == pytest.approx(800)
