"""Workers are killed: seconds until another worker reads their shards."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.pairs import SHARDS, clock_config, now_s, shards_of, share, taken_over
from tests.e2e.rig import Rig

TAKEN_S = 45
"""On a quiet machine it takes 14 s for a follower's shards and 23 s for a leader's; KCL alone takes 130 s for those."""


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_the_shards_of_a_killed_worker_are_read_again_soon(
    rig: Rig, role: str, measured: Callable[[str, float], None]
) -> None:
    rig.create(SHARDS)
    config = clock_config(rig)
    workers = rig.start(config), rig.start(config)
    with rig.flowing(per_second=20):
        pair = share(rig, *workers)
        victim = pair.leader if role == "leader" else pair.follower
        shards = shards_of(rig, victim)
        killed_s = now_s()
        victim.kill()
        waits = taken_over(rig, shards, killed_s)
    measured(f"a {role} is killed: until the last of its shards is read again", max(waits.values()))
    assert max(waits.values()) < TAKEN_S
    rig.settle()
    assert pair.other(victim).leave() == 0
    rig.expect_each_once()
