"""Shards that should be read and are not: which worker reports them, when, and with which reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from consumer.aws.shards import KnownShard
from consumer.leases.leases import Lease
from consumer.leases.unread import StreamObservation, Unread, UnreadWatch, expired
from pipeline.record import Position

A, B, C = (f"shardId-00000000000{n}" for n in range(3))
KNOWN = {shard: KnownShard(shard) for shard in (A, B)}
AFTER_S = 900.0


def lease(shard: str, owner: str = "me", counter: int = 1, **changes: object) -> Lease:
    return replace(Lease(shard, owner, counter, Position(5, 0), "", (), (), ""), **changes)  # type: ignore[arg-type]


def look(
    *leases: Lease, hearing: str = "", leader: str = "me", known: Mapping[str, KnownShard] = KNOWN
) -> StreamObservation:
    return StreamObservation(known, {each.shard_id: each for each in leases}, hearing.split(), leader)


class Renewed:
    """Leases whose counters change from look to look, except for those in ``stand``."""

    def __init__(self, watch: UnreadWatch) -> None:
        self.watch = watch

    def until(self, seconds: float, found: StreamObservation, *, stand: str = "") -> Unread:
        said = Unread()
        for now in range(0, int(seconds) + 1, 10):
            moved = {
                shard: each if shard in stand.split() else replace(each, counter=each.counter + now)
                for shard, each in found.leases.items()
            }
            said = self.watch.look(replace(found, leases=moved), float(now))
        return said


def watched(found: StreamObservation, seconds: float = AFTER_S, *, stand: str = "", after_s: float = AFTER_S) -> Unread:
    return Renewed(UnreadWatch("me", after_s)).until(seconds, found, stand=stand)


def test_a_task_that_reads_all_that_it_holds_has_nothing_to_tell() -> None:
    said = watched(look(lease(A), lease(B, "other"), hearing=A))
    assert said == Unread(unready=None)


@pytest.mark.parametrize("leader", ["me", "other", ""])
def test_a_lease_that_kcl_does_not_start_is_reported_by_its_owner(leader: str) -> None:
    found = look(lease(A), lease(B), hearing=A, leader=leader)
    early, late = watched(found, 890), watched(found)
    assert early.red == {} and list(early.told) == [B] and early.refused == (B,)
    assert late.red == {B: f"{B} is not read: it has its lease here, and KCL does not begin to read it (for 900 s)"}


def test_a_shard_without_a_lease_is_reported_by_the_leader() -> None:
    found = look(lease(A), hearing=A)
    assert watched(found).red == {B: f"{B} is not read: it has no lease (for 900 s)"}
    led = watched(replace(found, leader="other"))
    assert led.red == {} and list(led.told) == [B]
    assert watched(replace(found, leader="")).red


@pytest.mark.parametrize(
    ("owner", "reason"), [("", "no worker holds its lease"), ("dead", "dead has its lease and does not renew it")]
)
def test_a_lease_that_is_not_renewed_is_reported(owner: str, reason: str) -> None:
    assert reason in watched(look(lease(A), lease(B, owner), hearing=A), stand=B).red[B]


def test_a_lease_that_waits_for_its_parent_is_not_missed() -> None:
    child = lease(B, parents=(A,))
    assert watched(look(lease(A), child, hearing=A), stand=B).told == {}
    ended = lease(A, checkpoint=None, sentinel="SHARD_END")
    known = {A: KnownShard(A, open=False), B: KnownShard(B)}
    assert list(watched(look(ended, child, known=known), stand=B).red) == [B]


def test_an_open_shard_whose_lease_is_at_its_end_is_reported() -> None:
    """Leases that KCL leaves behind when a stream is deleted and created again."""
    ended = lease(A, checkpoint=None, sentinel="SHARD_END")
    assert "says that it was read to its end" in watched(look(ended, lease(B), hearing=B)).red[A]
    closed = {A: KnownShard(A, open=False), B: KnownShard(B)}
    assert watched(look(ended, lease(B), hearing=B, known=closed)).told == {}


def test_a_lease_that_another_still_drains_for_us_is_that_ones() -> None:
    assert watched(look(lease(A), lease(B, draining_owner="other"), hearing=A)).told == {}


def test_a_solved_problem_starts_again_from_zero() -> None:
    watch = Renewed(UnreadWatch("me", AFTER_S))
    missing = look(lease(A), lease(B), hearing=A)
    assert watch.until(AFTER_S, missing).red
    assert not watch.until(0, replace(missing, hearing=[A, B])).told
    assert not watch.until(890, missing).red


def test_a_short_limit_reports_no_later_than_it_turns_red() -> None:
    said = watched(look(lease(A), lease(B), hearing=A), 10, after_s=5)
    assert list(said.red) == list(said.told) == [B]


# -- readiness


def test_one_shard_does_not_make_a_task_ready() -> None:
    said = watched(look(lease(A), lease(B), hearing=A), 0)
    assert said.unready == f"{B}: not read yet"


def test_a_task_without_leases_is_ready_once_others_have_them_all() -> None:
    assert watched(look(lease(A, "other"), lease(B, "")), 0).unready == "no lease yet"
    assert watched(look(), 0).unready == "no lease yet"
    assert watched(look(lease(A, "other"), lease(B, "other")), 0).unready is None


def test_a_lease_that_comes_to_a_ready_task_has_half_a_minute() -> None:
    watch = Renewed(UnreadWatch("me", AFTER_S))
    assert watch.until(0, look(lease(A), lease(B, "other"), hearing=A)).unready is None
    handed_over = look(lease(A), lease(B), hearing=A)
    assert watch.until(20, handed_over).unready is None
    assert watch.until(40, handed_over).unready == f"{B}: not read yet"


def test_before_the_first_look_no_task_is_ready() -> None:
    assert Unread().unready


# -- what expired


def test_a_shard_that_expired_before_its_end_is_reported_once() -> None:
    watch = UnreadWatch("me", AFTER_S)
    gone = look(lease(A), lease(C), hearing=C, known={C: KnownShard(C)})
    assert [each.shard_id for each in watch.look(gone, 0).expired] == [A]
    assert watch.look(gone, 10).expired == ()


def test_shards_of_another_task_are_reported_by_that_task() -> None:
    gone = look(lease(A, "other"), lease(B, ""), lease(C), hearing=C, known={C: KnownShard(C)})
    assert [each.shard_id for each in UnreadWatch("me", AFTER_S).look(gone, 0).expired] == [B]
    assert UnreadWatch("me", AFTER_S).look(replace(gone, leader="other"), 0).expired == ()


def test_an_ended_shard_or_a_younger_one_has_not_expired() -> None:
    ended = lease(A, checkpoint=None, sentinel="SHARD_END")
    assert expired({B: KnownShard(B)}, [ended, lease(B), lease(C)]) == []
    assert expired({}, [lease(A)]) == []
