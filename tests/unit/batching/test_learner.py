"""The settings that the task's learner gets."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from consumer.build import learner
from consumer.config.load import parse
from consumer.config.settings import Settings
from pipeline.events import Predicted
from pipeline.replicas.host import ModelSpec


def settings(*, timeout_s: float = 120, **batch: Any) -> Settings:
    return parse(
        {
            "stream": {"name": "s", "application": "app"},
            "model": {"factory": "m:M", "version": "1", "timeout_s": timeout_s},
            "batch": batch,
            "sink": [{"type": "parquet", "url": "out"}],
            "dead_letter": {"url": "dead"},
        }
    )


def largest(**batch: Any) -> int:
    """The batches planned for a model of a second per record and ten per call."""
    batch_sizes = learner(settings(**batch), ModelSpec(pa.schema([]), measures=False, pads=False))
    assert batch_sizes is not None
    sizes = []
    for _ in range(300):
        records = batch_sizes.plan.records
        sizes.append(records)
        batch_sizes.formed()
        batch_sizes.learn(Predicted(records, 10.0 + records, 0, records, records))
    return max(sizes)


def test_batches_are_as_large_as_may_be_if_nothing_is_to_be_learned() -> None:
    assert learner(settings(adaptive=False), ModelSpec(pa.schema([]), measures=False, pads=False)) is None


def test_no_batch_is_planned_that_a_drain_would_not_fit() -> None:
    """(80 - 5 - 2) / 2 = 36.5 seconds, and 80 % of that as a margin, minus the ten of a call."""
    assert largest() == 16


def test_no_batch_is_planned_that_takes_longer_than_the_target() -> None:
    assert largest(target_latency_ms=17_000) in {8, 6}


def test_no_batch_is_planned_that_would_be_near_the_timeout() -> None:
    """80 % of 22 seconds, minus the ten of a call."""
    assert largest(timeout_s=22) in {8, 6}
