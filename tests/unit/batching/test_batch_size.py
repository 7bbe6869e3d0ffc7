"""The learner on simulated machines: it finds the fastest batches, for any curve and noise."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pipeline.batching.batch_size import CALL_S, BatchSizeController
from pipeline.batching.batcher import BatchPlan
from pipeline.events import Predicted

Curve = Callable[[int], float]


def reference(records: int) -> float:
    """Like a transformer of 1 GB on two cores at 128 tokens: fastest at 4 to 8, half as fast at 16."""
    known = {1: 1.5, 2: 1.62, 3: 1.66, 4: 1.7, 8: 1.7, 12: 1.2, 16: 0.9, 32: 0.8}
    return records / known[max(size for size in known if size <= records)]


CURVES: dict[str, Curve] = {
    "reference": reference,
    "gpu": lambda records: 0.010 + 0.0005 * records,
    "nothing": lambda records: 0.0002 + 0.000002 * records,
    "cache": lambda records: 0.002 + 0.004 * records + 0.0004 * max(0, records - 12) ** 1.5,
    "alone": lambda records: 0.1 * records**1.2,
}


@dataclass
class Machine:
    """Predicts with the speed of ``curve``, with noise, a pause now and then, and slow first calls."""

    curve: Curve
    noise: float
    seed: int = 1
    warming: int = 3

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    def seconds(self, records: int) -> float:
        dice = self.dice
        pause = self.curve(8) if dice.random() < 0.01 else 0.0
        self.warming -= 1
        return self.curve(records) * dice.lognormvariate(0, self.noise) * (3 if self.warming >= 0 else 1) + pause


def fed(batch_sizes: BatchSizeController, machine: Machine, batches: int) -> list[tuple[int, float]]:
    """Records and seconds of this many full batches."""
    calls = []
    for _ in range(batches):
        records = batch_sizes.plan.records
        batch_sizes.formed()
        seconds = machine.seconds(records)
        batch_sizes.learn(Predicted(records, seconds, 0, records, records))
        calls.append((records, seconds + CALL_S))
    return calls


def rate(calls: list[tuple[int, float]]) -> float:
    return sum(records for records, _ in calls) / sum(seconds for _, seconds in calls)


def new(max_records: int = 64, target_s: float | None = None, start: BatchPlan | None = None) -> BatchSizeController:
    return BatchSizeController(max_records=max_records, max_cost=0, measures=False, target_s=target_s, start=start)


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.25])
@pytest.mark.parametrize("name", CURVES)
def test_the_quickest_batch_is_found(name: str, noise: float) -> None:
    curve = CURVES[name]
    batch_sizes = new()
    late = fed(batch_sizes, Machine(curve, noise), 900)[400:]
    best = max(range(1, 65), key=lambda records: records / (curve(records) + CALL_S))
    machine = Machine(curve, noise, seed=2)
    oracle = rate([(best, machine.seconds(best) + CALL_S) for _ in range(500)])
    assert rate(late) >= (0.9 if noise > 0.2 else 0.95) * oracle


def test_a_slow_models_size_is_climbed_to_within_few_batches() -> None:
    """A batch takes seconds, so the choice must not need hundreds of them."""
    batch_sizes = BatchSizeController(max_records=12, max_cost=0, measures=False, example_s=0.65)
    assert batch_sizes.plan.records == 1
    fed(batch_sizes, Machine(CURVES["gpu"], 0.02), 40)
    assert batch_sizes.usual is not None and batch_sizes.usual >= 8


def test_a_size_that_is_much_slower_is_hardly_tried_again() -> None:
    """At 16 records the reference is half as fast as at 8, and such a try costs eight seconds."""
    batch_sizes = new(max_records=16, start=BatchPlan(8))
    sizes = [records for records, _ in fed(batch_sizes, Machine(reference, 0.02), 400)]
    assert 0 < sizes.count(16) <= 8


def test_a_change_of_the_machine_is_learned() -> None:
    batch_sizes = new()
    fed(batch_sizes, Machine(CURVES["gpu"], 0.05), 600)
    assert batch_sizes.usual == 64
    late = fed(batch_sizes, Machine(reference, 0.05), 900)[600:]
    assert rate(late) > 0.9 * 1.7


def test_a_trend_of_the_whole_machine_moves_nothing() -> None:
    """Everything becomes twice as slow, little by little: no size is to blame."""
    batch_sizes = new()
    fed(batch_sizes, Machine(CURVES["gpu"], 0.02), 500)
    slower = iter(range(500))
    fed(batch_sizes, Machine(lambda records: CURVES["gpu"](records) * (1 + next(slower) / 500), 0.0, warming=0), 200)
    assert batch_sizes.usual == 64


def test_no_batch_is_expected_to_take_longer_than_the_target() -> None:
    batch_sizes = new(target_s=0.03)
    calls = fed(batch_sizes, Machine(CURVES["gpu"], 0.02), 400)[20:]
    assert batch_sizes.usual == 32
    late = sum(seconds > 0.03 + CALL_S for _, seconds in calls)
    assert late < 0.05 * len(calls)


def test_the_first_batches_of_a_slow_model_are_small() -> None:
    assert BatchSizeController(max_records=64, max_cost=0, measures=False, example_s=0.65).plan.records == 1
    assert BatchSizeController(max_records=64, max_cost=0, measures=False, example_s=0.2).plan.records == 4
    assert BatchSizeController(max_records=64, max_cost=0, measures=False).plan.records == 8
    assert BatchSizeController(max_records=3, max_cost=0, measures=False).plan.records == 3


def test_the_best_earlier_plan_is_the_start() -> None:
    assert new(start=BatchPlan(records=32)).plan.records == 32
    weighed = BatchSizeController(max_records=64, max_cost=0, measures=True, start=BatchPlan(64, 512))
    assert (weighed.plan.records, weighed.plan.cost) == (64, 512)


def test_no_batch_is_larger_than_the_settings_allow() -> None:
    batch_sizes = new(max_records=20)
    assert max(records for records, _ in fed(batch_sizes, Machine(CURVES["gpu"], 0.02), 300)) == 16


def test_batches_that_traffic_does_not_fill_teach_nothing_wrong() -> None:
    """Three records at a time, whatever the plan: sizes that are not reached are not considered slow."""
    batch_sizes = new()
    for _ in range(500):
        batch_sizes.formed()
        batch_sizes.learn(Predicted(3, CURVES["gpu"](3), 0, 3, 3))
    assert batch_sizes.usual is not None and batch_sizes.usual >= 3
    fed(batch_sizes, Machine(CURVES["gpu"], 0.02), 400)
    assert batch_sizes.usual == 64


def test_costs_are_learned_where_the_model_measures() -> None:
    """Padded costs up to 600 are fast; a call costs as much as 50."""
    batch_sizes = BatchSizeController(max_records=64, max_cost=0, measures=True)
    dice = random.Random(3)
    for _ in range(600):
        each = dice.choice([5, 20, 60, 200])
        plan = batch_sizes.plan
        records = max(1, min(plan.records, (plan.cost or 10**9) // each))
        batch_sizes.formed()
        padded = records * each
        seconds = 0.05 + 0.001 * padded + 0.002 * max(0, padded - 600)
        batch_sizes.learn(Predicted(records, seconds, 0, padded, padded))
    assert batch_sizes.usual is not None and 360 <= batch_sizes.usual <= 730
    assert 20 <= batch_sizes.plan.call_cost <= 80


def test_each_replica_has_its_own_line() -> None:
    batch_sizes = new()
    for _ in range(40):
        for replica, slow in ((0, 1.0), (1, 3.0)):
            records = batch_sizes.plan.records
            batch_sizes.formed()
            batch_sizes.learn(Predicted(records, slow * CURVES["gpu"](records), replica, records, records))
    quick, slow_line = batch_sizes.line(0), batch_sizes.line(1)
    assert quick is not None and slow_line is not None
    assert slow_line.seconds(16, 16) / quick.seconds(16, 16) == pytest.approx(3, rel=0.1)
    assert batch_sizes.line(2) is None


def test_the_plan_stays_until_a_batch_is_formed() -> None:
    batch_sizes = new()
    fed(batch_sizes, Machine(CURVES["gpu"], 0.02), 30)
    assert len({batch_sizes.plan for _ in range(10)}) == 1
