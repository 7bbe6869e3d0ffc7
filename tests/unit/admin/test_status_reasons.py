"""Why a shard makes no progress: each reason, with looks that show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from consumer.admin.status.diagnose import diagnose
from consumer.admin.status.report import Kind, Why
from consumer.admin.status.snapshot import Snapshot
from tests.support.status_looks import NOW, A, B, C, lease, look, says


def why(now: Snapshot, *earlier: Snapshot, shard: str = A) -> Why | None:
    status = diagnose("events", now, earlier)
    return next(each.why for each in status.shards if each.shard_id == shard)


def kind(now: Snapshot, *earlier: Snapshot, shard: str = A) -> Kind | None:
    found = why(now, *earlier, shard=shard)
    return found.kind if found is not None else None


def test_a_shard_that_gets_on_has_no_reason() -> None:
    assert why(look(lease(), said={"w1": says({A: {}})})) is None


def test_a_child_waits_for_the_parents_that_are_not_read_to_their_ends() -> None:
    child = lease(C, sentinel="TRIM_HORIZON", parents=(A, B))
    ended = lease(B, sentinel="SHARD_END")
    found = why(look(lease(A), ended, child), shard=C)
    assert found == Why(Kind.PARENT, f"waits for parent {A}")
    assert kind(look(lease(A, sentinel="SHARD_END"), ended, child), shard=C) is not Kind.PARENT


def test_a_child_that_was_started_does_not_wait() -> None:
    assert kind(look(lease(A), lease(C, parents=(A,)), said={"w1": says({C: {}})}), shard=C) is None


def test_a_shard_without_an_owner_and_with_a_dead_leader() -> None:
    found = why(look(lease(owner=""), silent_s={"w1": 100}))
    assert found == Why(Kind.LEADER_DEAD, "no owner, leader w1 dead", NOW - 100)


def test_the_leader_that_is_dead_was_its_owner() -> None:
    found = why(look(lease(owner="w1"), silent_s={"w1": 100}))
    assert found == Why(Kind.LEADER_DEAD, "no owner, leader w1 dead", NOW - 100)


def test_the_owner_is_dead_and_so_is_the_leader() -> None:
    found = why(look(lease(owner="w2"), silent_s={"w1": 100, "w2": 120}))
    assert found == Why(Kind.LEADER_DEAD, "owner w2 is dead, leader w1 dead", NOW - 100)


def test_a_shard_without_a_leader() -> None:
    assert why(look(lease(owner=""), leader=None)) == Why(Kind.LEADER_DEAD, "no owner, and there is no leader")


def test_the_owner_is_dead_and_the_leader_lives() -> None:
    found = why(look(lease(owner="w2"), silent_s={"w2": 100}))
    assert found == Why(Kind.OWNER_DEAD, "owner w2 is dead; leader w1 gives it to another worker", NOW - 100)


def test_a_leader_that_renews_its_leases_lives_for_any_clock() -> None:
    before = look(lease(counter=7), at_s=NOW - 2, silent_s={"w1": 1000})
    now = look(lease(counter=8), silent_s={"w1": 1000}, said={"w1": says({A: {}}, at_s=NOW - 1000)})
    assert kind(now, before) is None
    assert kind(now) is Kind.LEADER_DEAD


def test_a_leader_whose_page_refuses_is_dead_at_once() -> None:
    now = look(lease(), silent_s={"w1": 3}, said={"w1": says({A: {}}, at_s=NOW - 3)}, gone=frozenset({"w1"}))
    assert why(now) == Why(Kind.LEADER_DEAD, "no owner, leader w1 dead", NOW - 3)


def test_earlier_renewals_of_a_dead_worker_are_not_a_sign_of_life() -> None:
    gone = frozenset({"w1"})
    silent = {"w1": 3}
    before = [look(lease(counter=5), at_s=NOW - 4), look(lease(counter=6), at_s=NOW - 2)]
    assert kind(look(lease(counter=7), silent_s=silent, gone=gone), *before) is Kind.LEADER_DEAD
    still = look(lease(counter=7), at_s=NOW - 1, silent_s={"w1": 2}, gone=gone)
    assert kind(look(lease(counter=7), silent_s=silent, gone=gone), *before, still) is Kind.LEADER_DEAD
    assert kind(look(lease(counter=8), silent_s=silent, gone=gone), *before, still) is None


def test_the_leader_will_assign_it() -> None:
    found = why(look(lease(owner="")))
    assert found == Why(Kind.NO_OWNER, "no owner; leader w1 assigns it within 20 s")


def test_a_handoff_is_pending_since_it_was_first_seen() -> None:
    pending = lease(owner="w2", draining_owner="w1")
    looks = [look(lease(), at_s=NOW - 9), look(pending, at_s=NOW - 6), look(pending, at_s=NOW - 3)]
    found = why(look(pending), *looks)
    assert found == Why(Kind.HANDOFF, "handoff from w1 to w2 pending", NOW - 6)


def test_a_worker_has_seen_the_handoff_for_longer() -> None:
    pending = lease(owner="w2", draining_owner="w1")
    found = why(look(pending, said={"w2": says({}, handoffs_s={A: 42.0})}))
    assert found is not None
    assert found.since_s == NOW - 42


def test_every_worker_has_as_many_leases_as_it_may() -> None:
    full = {worker: says({}, max_leases=1) for worker in ("w1", "w2")}
    free = lease(C, owner="")
    assert kind(look(lease(A, "w1"), lease(B, "w2"), free, said=full), shard=C) is Kind.MAX_LEASES
    room = full | {"w2": says({}, max_leases=2)}
    assert kind(look(lease(A, "w1"), lease(B, "w2"), free, said=room), shard=C) is Kind.NO_OWNER


def test_the_only_worker_with_room_reports_no_metric() -> None:
    said = {"w1": says({}, max_leases=1), "w2": says({})}
    now = look(lease(A), lease(C, owner=""), said=said, failing=["w2"])
    found = why(now, shard=C)
    assert found == Why(Kind.NO_METRIC, "no owner: worker w2 reports no metric, so it gets no lease")
    assert kind(look(lease(A), lease(C, owner=""), said=said, workers=["w1"]), shard=C) is Kind.NO_METRIC


def test_a_record_is_bisected() -> None:
    out = [{"age_s": 4.0, "tries": 3, "shards": [A, B]}]
    now = look(lease(A), lease(B), lease(C), said={"w1": says({A: {}, B: {}, C: {}}, batches_out=out)})
    assert why(now) == Why(Kind.BISECTING, "a record is being bisected", NOW - 4)
    assert kind(now, shard=B) is Kind.BISECTING
    assert kind(now, shard=C) is None


def test_a_careful_reading_is_recognized_by_its_note() -> None:
    note = '{"deaths":[["w3","killed"],["w4","killed"]]}'
    assert kind(look(lease(raw={"penstockDoubt": {"S": note}}))) is Kind.BISECTING


@pytest.mark.parametrize(("p99_s", "age_s", "stuck"), [(1, 9, False), (1, 11, True), (20, 79, False), (0, 29, False)])
def test_a_batch_that_does_not_come_back(p99_s: float, age_s: float, stuck: bool) -> None:
    out = [{"age_s": age_s, "tries": 0, "shards": [A]}]
    found = why(look(lease(), said={"w1": says({A: {}}, batches_out=out, batch_p99_s=p99_s)}))
    expected = Why(Kind.MODEL_STUCK, "the model is stuck: a batch does not return", NOW - age_s)
    assert found == (expected if stuck else None)


def test_no_replica_starts() -> None:
    outages = [{"part": "model", "kind": "model", "reason": "no replica starts", "for_s": 8.0}]
    found = why(look(lease(), said={"w1": says({A: {}}, outages=outages)}))
    assert found == Why(Kind.MODEL_STUCK, "the model is stuck: no replica starts", NOW - 8)


def test_a_refused_sink_is_the_reason_of_shards_that_wait_for_it() -> None:
    outages = [{"part": "s3://b/t", "kind": "sink", "reason": "AccessDenied", "for_s": 5.0}]
    nothing = {"unsettled": 0, "held_bytes": 0, "lag_s": 0, "idle_s": 99.0}
    now = look(lease(A), lease(B), said={"w1": says({A: {}, B: nothing}, outages=outages)})
    assert why(now) == Why(Kind.SINK_REFUSED, "the sink is refused: s3://b/t: AccessDenied", NOW - 5)
    assert kind(now, shard=B) is Kind.NO_NEW_RECORDS


def test_kcl_does_not_begin_it() -> None:
    now = look(lease(), said={"w1": says({}, unread={A: f"{A} is not read: KCL does not begin"})})
    assert why(now) == Why(Kind.NOT_BEGUN, f"{A} is not read: KCL does not begin")


def test_the_stream_has_no_new_records() -> None:
    idle = {"unsettled": 0, "held_bytes": 0, "lag_s": 0, "idle_s": 60.0}
    found = why(look(lease(), said={"w1": says({A: idle})}))
    assert found == Why(Kind.NO_NEW_RECORDS, "the stream has no new records", NOW - 60)
    for not_yet in (0.5, None):
        assert why(look(lease(), said={"w1": says({A: {**idle, "idle_s": not_yet}})})) is None


def test_another_kcl_application_is_diagnosed_from_the_stream() -> None:
    looks = [look(lease(counter=each), at_s=NOW - 12 + each, behind_s={A: 0.0}) for each in range(0, 12, 2)]
    assert kind(look(lease(counter=12), behind_s={A: 0.0}), *looks) is Kind.NO_NEW_RECORDS
    assert kind(look(lease(counter=12), behind_s={A: 30.0}), *looks) is None


def test_an_unexplained_standstill_is_unknown() -> None:
    looks = [look(lease(counter=each), at_s=NOW - 40 + each, behind_s={A: 30.0}) for each in range(0, 40, 2)]
    assert kind(look(lease(counter=40), behind_s={A: 70.0}), *looks) is Kind.UNKNOWN


def test_a_shard_without_a_lease() -> None:
    known = {**look(lease(A)).known, **look(lease(B)).known}
    now = look(lease(A), known=known)
    assert kind(now, shard=B) is Kind.NO_LEASE


FACTS: Sequence[dict[str, Any]] = [{}, {"workers": []}, {"leader": None}]


@pytest.mark.parametrize("facts", FACTS)
def test_invalid_values_in_a_report_are_unknown(facts: dict[str, Any]) -> None:
    said = says({A: {"unsettled": "many", "lag_s": None, "behind_s": float("nan")}}, batches_out=7, outages={"a": 1})
    status = diagnose("events", look(lease(), said={"w1": said}, **facts))
    assert status.shards[0].behind_s is None
    assert status.shards[0].records_behind is None
