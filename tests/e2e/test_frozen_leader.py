"""A worker that is frozen until its leases have expired, and resumes: nothing is lost or duplicated, and it works
again."""

from __future__ import annotations

from tests.e2e.pairs import SHARDS, clock_config, now_s, owned, shards_of, share, taken_over
from tests.e2e.rig import LEAVE_S, Rig, wait_until


def test_a_leader_that_thaws_after_its_shards_were_taken_doubles_nothing_and_works_again(rig: Rig) -> None:
    rig.create(SHARDS)
    config = clock_config(rig)
    workers = rig.start(config), rig.start(config)
    with rig.flowing(per_second=20):
        pair = share(rig, *workers)
        zombie, shards = pair.leader, shards_of(rig, pair.leader)
        frozen_s = now_s()
        zombie.freeze()
        assert taken_over(rig, shards, frozen_s)
        assert owned(rig) == {pair.follower.id}
        zombie.thaw()
        wait_until(
            lambda: owned(rig) == {worker.id for worker in workers}, LEAVE_S, "the thawed worker has leases again"
        )
    rig.settle()
    assert "lease lost" in zombie.log.read_text() or "another worker has the lease" in zombie.log.read_text()
    assert [worker.leave() for worker in workers] == [0, 0]
    rig.expect_each_once()
