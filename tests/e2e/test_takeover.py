"""Two workers share a stream. One is frozen and thaws, and each role is killed: the other one soon reads its shards,
and nothing is lost or duplicated."""

from __future__ import annotations

from collections.abc import Callable

from tests.e2e.pairs import SHARDS, Pair, clock_config, now_s, owned, shards_of, share, taken_over
from tests.e2e.rig import LEAVE_S, Rig, Worker, wait_until

TAKEN_S = 45
"""On a quiet machine it takes 14 s for a follower's shards and 23 s for a leader's; KCL alone takes 130 s for those."""

Measured = Callable[[str, float], None]


def test_the_shards_of_a_frozen_or_killed_worker_are_read_again_soon_and_nothing_is_doubled(
    rig: Rig, measured: Measured
) -> None:
    rig.create(SHARDS)
    config = clock_config(rig)
    workers = rig.start(config), rig.start(config)
    with rig.flowing(per_second=20):
        a_leader_thaws_after_its_shards_were_taken_and_works_again(rig, share(rig, *workers))
        pair = share(rig, *workers)
        left = killed(rig, pair, pair.follower, measured)
        pair = share(rig, left, rig.start(config))
        left = killed(rig, pair, pair.leader, measured)
    rig.settle()
    assert left.leave() == 0
    rig.expect_each_once()


def a_leader_thaws_after_its_shards_were_taken_and_works_again(rig: Rig, pair: Pair) -> None:
    zombie, shards = pair.leader, shards_of(rig, pair.leader)
    frozen_s = now_s()
    zombie.freeze()
    assert taken_over(rig, shards, frozen_s)
    assert owned(rig) == {pair.follower.id}, "the other worker has the shards of a frozen leader"
    zombie.thaw()
    wait_until(lambda: owned(rig) == {zombie.id, pair.follower.id}, LEAVE_S, "the thawed worker has leases again")
    assert taken_over(rig, shards_of(rig, zombie), now_s()), "the thawed worker reads its shards"
    log = zombie.log.read_text()
    assert "lease lost" in log or "another worker has the lease" in log, "the thawed worker tells of its lost leases"


def killed(rig: Rig, pair: Pair, victim: Worker, measured: Measured) -> Worker:
    """Return the other worker, when it reads the victim's shards."""
    role = "leader" if victim is pair.leader else "follower"
    shards = shards_of(rig, victim)
    killed_s = now_s()
    victim.kill()
    waits = taken_over(rig, shards, killed_s)
    measured(f"a {role} is killed: until the last of its shards is read again", max(waits.values()))
    assert max(waits.values()) < TAKEN_S, f"the shards of a killed {role}"
    return pair.other(victim)
