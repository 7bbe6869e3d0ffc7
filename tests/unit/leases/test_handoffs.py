"""A lease that should be drained for another worker and is not is passed on; one that is drained is not changed."""

from __future__ import annotations

from dataclasses import replace

from consumer.leases.handoffs import HandoffWatch
from consumer.leases.leases import Lease
from consumer.leases.reassign import OrphanedLease

LEASE = Lease("shard-4", "other", 7, None, "TRIM_HORIZON", ("shard-3",), (), draining_owner="me")
FORGOTTEN = [OrphanedLease("shard-4", "me", "other", drainer="me")]


def test_a_handoff_without_a_drain_is_reported_after_a_while() -> None:
    watch = HandoffWatch("me", wait_s=20)
    assert watch.look([LEASE], set(), 0) == []
    assert watch.look([replace(LEASE, counter=9)], set(), 19) == []
    assert watch.look([LEASE], set(), 20) == FORGOTTEN


def test_a_shard_with_a_session_is_being_drained() -> None:
    watch = HandoffWatch("me", wait_s=20)
    assert watch.look([LEASE], {"shard-4"}, 0) == []
    assert watch.look([LEASE], {"shard-4"}, 100) == []
    assert watch.look([LEASE], set(), 101) == []
    assert watch.look([LEASE], set(), 121) == FORGOTTEN


def test_a_session_in_between_restarts_the_wait() -> None:
    watch = HandoffWatch("me", wait_s=20)
    watch.look([LEASE], set(), 0)
    watch.look([LEASE], {"shard-4"}, 10)
    assert watch.look([LEASE], set(), 20) == []


def test_another_owner_restarts_the_wait() -> None:
    watch = HandoffWatch("me", wait_s=20)
    watch.look([LEASE], set(), 0)
    assert watch.look([replace(LEASE, owner="third")], set(), 20) == []


def test_leases_that_others_drain_or_that_are_not_drained_are_ignored() -> None:
    watch = HandoffWatch("me", wait_s=20)
    found = [replace(LEASE, draining_owner="third"), replace(LEASE, draining_owner=""), replace(LEASE, owner="")]
    watch.look(found, set(), 0)
    assert watch.look(found, set(), 100) == []
