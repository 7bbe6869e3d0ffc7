"""Shards are split and merged while the consumer reads: nothing is lost or duplicated, and the order is kept."""

from __future__ import annotations

from examples.demo.corpus import records
from tests.e2e.rig import Rig


def test_reshards_while_records_flow_lose_and_double_nothing(rig: Rig) -> None:
    rig.create(shards=2)
    worker = rig.start()
    parts = records(600, seed=2)
    rig.put(parts[:200])
    rig.enriched(20)
    rig.reshard(4)
    rig.put(parts[200:400])
    rig.reshard(3)
    rig.put(parts[400:])
    rig.settle()
    assert worker.leave() == 0
    rows = rig.expect_each_once()
    assert rows["shard_id"].nunique() > 4
