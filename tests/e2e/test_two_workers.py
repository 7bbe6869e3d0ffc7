"""Two workers share four shards, and one takes over what the other leaves."""

from __future__ import annotations

from examples.demo.corpus import records
from tests.e2e.rig import Rig, wait_until


def test_leases_spread_over_two_workers_and_come_back_to_one(rig: Rig) -> None:
    rig.create(shards=4)
    parts = records(600, seed=6)
    workers = [rig.start(), rig.start()]
    rig.put(parts[:300])
    wait_until(lambda: len(set(rig.owners().values())) == 2, 90, "leases spread over two workers")
    assert workers[0].leave() == 0
    rig.put(parts[300:])
    rig.settle()
    assert workers[1].leave() == 0
    rig.expect_each_once()
