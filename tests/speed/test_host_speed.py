"""Lower bounds of the host's speed, loose because machines are busy; benchmarks/host.py measures it."""

from __future__ import annotations

import asyncio

from benchmarks import host
from benchmarks.host import Load

LATE_S = 1.0
P50_MS, P99_MS = 60.0, 250.0
"""The targets are 25 and 40 on a machine without other load."""


def test_no_beat_is_late_with_many_shards_and_a_model_that_has_too_much_to_do() -> None:
    """There is more than 1.5 s of work for the model, and room for all of it."""
    figures = asyncio.run(host.beat(1, Load(shards=64, messages=6, records=40), batch_s=0.1))
    assert 0 < figures["beat_late_s"].value < LATE_S


def test_a_record_that_comes_when_nothing_waits_is_settled_soon_after_the_linger() -> None:
    figures = asyncio.run(host.latency(1, Load(shards=4, messages=6, records=20, every_s=0.1)))
    assert 0 < figures["added_latency_p50_ms"].value < P50_MS
    assert figures["added_latency_p50_ms"].value <= figures["added_latency_p99_ms"].value < P99_MS


def test_the_models_own_time_is_not_added_latency() -> None:
    """A call takes longer than a record may wait."""
    figures = asyncio.run(host.latency(1, Load(shards=2, messages=4, records=10, every_s=0.3), batch_s=0.15))
    assert 0 < figures["added_latency_p50_ms"].value < P50_MS
