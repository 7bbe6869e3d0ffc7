"""Every second of a replica is counted, by its use."""

from __future__ import annotations

import random
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batching.batch_size import CALL_S, BatchSizeController
from pipeline.batching.utilization import LATE_S, PARTS, ReplicaTime, described
from pipeline.events import Predicted


@cache
def learned(*, measures: bool = False) -> BatchSizeController:
    """A model that takes 10 ms for a call and 1 ms for a record, or 0.1 ms for a unit of cost."""
    batch_sizes = BatchSizeController(max_records=32, max_cost=320 if measures else 0, measures=measures)
    for _ in range(300):
        plan = batch_sizes.plan
        records = min(plan.records, plan.cost // 10) if plan.cost else plan.records
        batch_sizes.formed()
        batch_sizes.learn(call(records, cost=records * 10 if measures else records))
    assert batch_sizes.usual in {32, 256}
    return batch_sizes


def call(records: int, *, cost: int, padded: int = 0, slower: float = 1.0) -> Predicted:
    each = 0.0001 if cost != records else 0.001
    return Predicted(records, (0.010 + each * (padded or cost)) * slower, 0, cost, padded or cost)


def full(batch_sizes: BatchSizeController, *, slower: float = 1.0) -> Predicted:
    return call(32, cost=32, slower=slower)


def test_a_replica_that_always_predicts_its_best_batch_is_all_model() -> None:
    account = ReplicaTime(1, learned())
    account.state(0.0, 2, held=False)
    for _ in range(100):
        account.called(full(learned()))
    shares = account.shares(100 * 0.042)
    assert shares["model"] == pytest.approx(1.0, abs=0.03)


def test_unused_time_is_waiting() -> None:
    account = ReplicaTime(2, learned())
    account.state(0.0, 0, held=False)
    account.state(10.0, 1, held=False)
    account.state(20.0, 0, held=True)
    shares = account.shares(40.0)
    assert shares["waiting"] == pytest.approx((2 * 10 + 10) / 80)
    assert shares["sinks"] == pytest.approx(2 * 20 / 80)
    assert shares["transport"] == pytest.approx(10 / 80)


def test_small_batches_padding_and_a_busy_machine_are_distinguished() -> None:
    batch_sizes = learned()
    small = ReplicaTime(1, batch_sizes)
    small.state(0.0, 1, held=False)
    for _ in range(10):
        small.called(call(4, cost=4))
    seconds = small.seconds(10 * 0.014)
    assert seconds["underfilled"] == pytest.approx(10 * (0.014 + CALL_S - 4 * 0.0425 / 32), rel=0.1)

    busy = ReplicaTime(1, batch_sizes)
    busy.state(0.0, 1, held=False)
    busy.called(full(batch_sizes, slower=2.0))
    assert busy.seconds(0.084)["contention"] == pytest.approx(0.042, rel=0.05)

    pads = learned(measures=True)
    padded = ReplicaTime(1, pads)
    padded.state(0.0, 1, held=False)
    padded.called(call(16, cost=128, padded=256))
    seconds = padded.seconds(0.0356)
    assert seconds["padding"] == pytest.approx(seconds["model"], rel=0.05)


def test_the_time_before_the_first_batch_does_not_count() -> None:
    account = ReplicaTime(1, None)
    assert set(account.shares(100.0).values()) == {0.0}
    account.state(100.0, 1, held=False)
    account.called(call(8, cost=8))
    assert sum(account.seconds(101.0).values()) == pytest.approx(1.0)


def test_a_line_says_where_it_went() -> None:
    assert described({"model": 0.914, "waiting": 0.06, "padding": 0.001}) == "model 91 %, waiting 6 %"


def test_before_anything_is_known_a_call_is_the_models() -> None:
    account = ReplicaTime(1, None)
    account.state(0.0, 1, held=False)
    account.called(call(8, cost=8))
    assert account.shares(0.018)["model"] == pytest.approx(1.0)


steps_of_life = st.lists(st.tuples(st.sampled_from("scw"), st.integers(0, 5), st.floats(0.001, 5)), max_size=60)


@given(steps_of_life, st.integers(1, 4))
def test_the_parts_add_up_to_the_time_there_was(steps: list[tuple[str, int, float]], replicas: int) -> None:
    dice, now = random.Random(1), 0.0
    account = ReplicaTime(replicas, learned())
    for what, number, seconds in steps:
        if what == "s":
            account.state(now, number, held=number % 2 == 0)
        elif what == "c" and number:
            account.called(Predicted(number, dice.uniform(0.0001, 0.001), 0, number, number))
        now += seconds
    parts = account.seconds(now)
    states = [sum(seconds for _, _, seconds in steps[place:]) for place, step in enumerate(steps) if step[0] == "s"]
    assert set(parts) == set(PARTS)
    assert min(parts.values()) >= 0
    in_replicas = sum(parts[part] for part in ("model", "padding", "underfilled", "contention"))
    if parts["transport"]:
        assert sum(parts.values()) == pytest.approx(replicas * states[0])
    else:
        assert in_replicas >= 0


def test_recent_is_the_last_minute() -> None:
    account = ReplicaTime(1, None)
    for second in range(200):
        account.state(float(second), 0, held=second >= 100)
        account.late_shares(float(second))
    late = account.late_shares(200.0)
    assert late["sinks"] == pytest.approx(1.0)
    assert account.shares(200.0)["sinks"] == pytest.approx(0.5)
    assert LATE_S < 100
