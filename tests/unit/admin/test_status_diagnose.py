"""From looks to a status: trends, times, workers, totals. Unknown values are never 0."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.admin.status.diagnose import CAUGHT_UP_S, caught_up_in_s, diagnose, trend
from consumer.admin.status.report import ShardStatus, Status, Trend, as_json
from consumer.admin.status.snapshot import Snapshot
from tests.support.status_looks import NOW, A, B, C, lease, look, says


def only(status: Status) -> ShardStatus:
    (shard,) = status.shards
    return shard


def test_a_shard_shows_the_report_of_its_worker() -> None:
    said = says({A: {"behind_s": 60.0, "lag_s": 59, "slope": -0.5, "rate": 12.0, "checkpoint_age_s": 3.0}})
    shard = only(diagnose("events", look(lease(), said={"w1": said})))
    assert (shard.owner, shard.behind_s, shard.trend, shard.caught_up_in_s) == ("w1", 60, Trend.SHRINKING, 120)
    assert (shard.rate, shard.checkpoint, shard.checkpoint_age_s) == (12, "42/0", 3)
    assert shard.records_behind is None


def test_at_the_end_of_a_shard_the_backlog_is_what_the_worker_holds() -> None:
    shard = only(diagnose("events", look(lease(), said={"w1": says({A: {"unsettled": 3, "lag_s": 0}})})))
    assert shard.records_behind == 3


def test_without_a_worker_the_looks_give_the_trend() -> None:
    looks = [look(lease(counter=n), at_s=NOW - 20 + n, behind_s={A: 100.0 + n}) for n in range(0, 20, 2)]
    shard = only(diagnose("events", look(lease(counter=20), behind_s={A: 120.0}), looks))
    assert (shard.behind_s, shard.trend, shard.caught_up_in_s) == (120, Trend.GROWING, None)


def test_the_age_of_a_checkpoint_counts_from_the_look_that_first_showed_it() -> None:
    looks = [look(lease(counter=1, sentinel="TRIM_HORIZON"), at_s=NOW - 8), look(lease(counter=2), at_s=NOW - 4)]
    assert only(diagnose("events", look(lease(counter=3)), looks)).checkpoint_age_s == 8
    assert only(diagnose("events", look(lease(counter=3)), looks[1:])).checkpoint_age_s is None


def test_values_without_a_source_are_unknown_and_not_zero() -> None:
    shard = only(diagnose("events", look(lease())))
    assert (shard.records_behind, shard.behind_s, shard.trend, shard.rate, shard.caught_up_in_s) == (None,) * 5
    totals = diagnose("events", look(lease())).totals
    assert (totals.behind_s, totals.rate, totals.arrival_rate, totals.caught_up_in_s) == (None,) * 4


def test_old_looks_count_no_more() -> None:
    old = look(lease(counter=1), at_s=NOW - 1000, behind_s={A: 0.0})
    assert only(diagnose("events", look(lease(counter=2), behind_s={A: 500.0}), [old])).trend is None


def test_the_last_report_of_a_dead_worker_does_not_count() -> None:
    said = {"w2": says({A: {"behind_s": 1.0, "rate": 9.0}}, at_s=NOW - 300)}
    shard = only(diagnose("events", look(lease(A, "w2"), said=said, silent_s={"w2": 300.0}, behind_s={A: 290.0})))
    assert (shard.behind_s, shard.rate, shard.records_behind) == (290, 0, None)


def test_workers() -> None:
    dead = {"w2": 300.0}
    status = diagnose("events", look(lease(), said={"w1": says({A: {}})}, silent_s=dead))
    first, second = status.workers
    assert (first.worker, first.alive, first.leader, first.leases, first.source) == ("w1", True, True, 1, "page")
    assert (first.batch_size, first.busy, first.efficiency, first.version) == (8, 0.5, 0.4, "0.1.0, m@1")
    assert (second.alive, second.batch_size, second.version, second.problems) == (False, None, None, ("dead",))
    assert second.seen_s_ago == 300


def test_a_worker_that_has_long_been_silent_and_holds_nothing_is_not_shown() -> None:
    status = diagnose("events", look(lease(), silent_s={"w2": 700.0}))
    assert [worker.worker for worker in status.workers] == ["w1"]


def test_totals_are_the_largest_lag_and_the_sums_of_rates() -> None:
    behind = {
        A: {"behind_s": 1.0, "rate": 5.0},
        B: {"behind_s": 30.0, "lag_s": 30, "rate": 7.0, "slope": -0.1},
    }
    said = says({shard: {**told, "arrival_rate": 2.0} for shard, told in behind.items()})
    waiting = lease(C, sentinel="TRIM_HORIZON", parents=(A,))
    totals = diagnose("events", look(lease(A), lease(B), waiting, said={"w1": said})).totals
    assert (totals.behind_s, totals.rate, totals.arrival_rate) == (30, 12, 4)
    assert (totals.trend, totals.caught_up_in_s) == (Trend.SHRINKING, 300)
    counted = diagnose("events", look(lease(A), lease(B), waiting, said={"w1": said}, arrival_rate=9.0)).totals
    assert counted.arrival_rate == 9, "CloudWatch counts what arrives; workers derive it"
    assert (totals.shards_to_read, totals.standing_still, totals.workers_alive) == (3, 1, 2)


def test_an_ended_shard_is_counted_and_not_shown() -> None:
    status = diagnose("events", look(lease(A, sentinel="SHARD_END")))
    assert (status.shards, status.totals.shards_ended) == ((), 1)


@given(st.floats(0, 1e6), st.floats(-10, 10))
def test_a_shard_catches_up_if_and_only_if_it_is_caught_up_or_its_lag_shrinks(behind_s: float, moves: float) -> None:
    found = caught_up_in_s(behind_s, moves)
    assert (found is not None) == (behind_s <= CAUGHT_UP_S or trend(behind_s, moves) is Trend.SHRINKING)
    assert found is None or found >= 0


numbers = st.none() | st.floats() | st.integers(-5, 10**6) | st.text(max_size=3)
counts = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("unsettled", "held_bytes", "lag_s", "behind_s", "rate", "idle_s", "slope"), numbers),
)


# Made once: Hypothesis takes long to make and check a strategy.
workers = st.sampled_from(["", "w1", "w2", "w3"])
places = st.sampled_from(({"sentinel": "TRIM_HORIZON"}, {"sentinel": "SHARD_END"}, {"sentinel": "LATEST"}, {}))
held = st.lists(st.sampled_from([A, B, C]), unique=True)
parents_of = st.lists(st.sampled_from([A, B]), unique=True)
counters = st.integers(0, 3)
shards = st.dictionaries(st.sampled_from([A, B, C]), counts)
out = st.lists(st.fixed_dictionaries({"age_s": numbers, "tries": numbers, "shards": st.just([A])}), max_size=2)
speaking = st.lists(st.sampled_from(["w1", "w2"]), unique=True)
leaders = st.sampled_from([None, "w1", "w3"])
silences = st.dictionaries(st.sampled_from(["w1", "w2"]), st.floats(0, 1000))


@st.composite
def looks(draw: st.DrawFn, at_s: float) -> Snapshot:
    found = []
    for shard in draw(held):
        place: dict[str, Any] = draw(places)
        parents = tuple(each for each in draw(parents_of) if each != shard)
        draining, counter = draw(workers), draw(counters)
        found.append(lease(shard, draw(workers), parents=parents, draining_owner=draining, counter=counter, **place))
    said = {worker: says(draw(shards), at_s, batches_out=draw(out)) for worker in draw(speaking)}
    return look(*found, at_s=at_s, said=said, leader=draw(leaders), silent_s=draw(silences))


@given(looks(NOW - 4), looks(NOW - 2), looks(NOW))
def test_any_reads_give_a_status(first: Snapshot, second: Snapshot, now: Snapshot) -> None:
    status = diagnose("events", now, [first, second])
    json.dumps(as_json(status), allow_nan=False)
    living = {worker.worker for worker in status.workers if worker.alive}
    for shard in status.shards:
        holder = shard.drained_by or shard.owner
        assert shard.why is not None or (holder in living), "a shard that no living worker has stands still"
        assert shard.behind_s is None or shard.behind_s >= 0 or holder in now.said


@pytest.mark.parametrize("status", [diagnose("events", look(lease(), said={"w1": says({A: {}})}))])
def test_json_has_null_for_unknown_values(status: Status) -> None:
    said = as_json(status)
    assert said["shards"][0]["why"] is None
    assert said["migration"] is None
    assert said["workers"][1]["batch_size"] is None
