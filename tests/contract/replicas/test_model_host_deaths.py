"""The model host with real replicas that die, hang, or are killed: who is to blame, and who goes on."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from pipeline.events import DeadLettered, ReplicaReplaced
from pipeline.replicas.host import ModelHost
from tests.support.hosts import LivingHost, batch, death, expect_all_but, value


def restarts(events: list[Any]) -> list[str]:
    return [event.reason for event in events if isinstance(event, ReplicaReplaced)]


DEADLY = {
    "exit": "replica exited with code 3",
    "segfault": "replica killed by signal 11",
    "abort": "replica killed by signal 6",
    "be killed": "replica killed by signal 9",
    "leave child": "replica exited with code 3",
    "lose device": "replica lost its device: RuntimeError: CUDA error: device-side assert triggered",
}


@pytest.mark.parametrize("action", ["exit", "segfault", "lose device"])
def test_a_record_that_takes_the_replica_along_is_dead_and_no_other(plain: LivingHost, action: str) -> None:
    records = batch(6, {4: action})
    events = plain.judged(records)
    expect_all_but(records, {4})
    assert (death(records[4]).reason, death(records[4]).kind) == (DEADLY[action], "died")
    assert death(records[4]).attempts == 2
    assert events.count(DeadLettered("died")) == 1
    assert len(restarts(events)) == 3


def test_each_of_several_records_that_take_the_replica_along_is_dead_with_its_own_reason(hasty: LivingHost) -> None:
    bad = dict(enumerate(DEADLY, 1))
    records = batch(len(DEADLY) + 2, bad)
    events = hasty.judged(records)
    expect_all_but(records, set(bad))
    assert {bad[n]: death(records[n]).reason for n in bad} == DEADLY
    assert {(death(records[n]).kind, death(records[n]).attempts) for n in bad} == {("died", 1)}
    assert events.count(DeadLettered("died")) == len(DEADLY)
    assert len(restarts(events)) == 1 + len(DEADLY)


def test_a_record_that_hangs_is_timed_out(hasty: LivingHost) -> None:
    """Once with the batch, and once alone; also if Python never runs again."""
    records = batch(4, {1: "hang", 2: "stop python"})
    events = hasty.judged(records)
    expect_all_but(records, {1, 2})
    for each in records[1:3]:
        assert (death(each).reason, death(each).kind) == ("replica timed out after 1 s", "timeout")
        assert death(each).attempts == 1
    assert restarts(events) == ["timed out after 1 s"] * 3


def test_each_request_has_the_whole_time(hasty: LivingHost) -> None:
    """Together they take 1.4 s."""
    batches = [batch(1, {0: "slow"}) for _ in range(7)]

    async def body(host: ModelHost) -> None:
        await asyncio.gather(*(host.settle(records) for records in batches))

    assert not restarts(hasty.hosted(body))
    for records in batches:
        expect_all_but(records, set())


def test_a_replica_killed_from_outside_costs_no_record(plain: LivingHost) -> None:
    records = batch(10, {2: "slow"})

    async def body(host: ModelHost) -> None:
        judging = asyncio.create_task(host.settle(records))
        await asyncio.sleep(0)
        os.kill(host.pids[0], signal.SIGKILL)
        await judging

    events = plain.hosted(body)
    expect_all_but(records, set())
    assert restarts(events) == ["killed by signal 9"]


@pytest.mark.parametrize("action", ["exit", "lose device"])
def test_a_batch_queued_behind_a_deadly_one_is_not_a_suspect(hasty: LivingHost, action: str) -> None:
    deadly, behind = batch(2, {0: action}), batch(5)

    async def body(host: ModelHost) -> None:
        assert host.slots == 2
        await asyncio.gather(host.settle(deadly), host.settle(behind))

    hasty.hosted(body)
    expect_all_but(deadly, {0})
    expect_all_but(behind, set())
    assert hasty.calls.count(5) == 1


def test_a_batch_goes_to_the_replica_that_has_least_to_do(pair: LivingHost) -> None:
    batches = [batch(1, {0: "tell"}), batch(1, {0: "tell"})]

    async def body(host: ModelHost) -> None:
        await asyncio.gather(*(host.settle(records) for records in batches))

    pair.hosted(body)
    assert value(batches[0][0], "x") != value(batches[1][0], "x"), "both went to the same replica"


def test_several_replicas_share_the_work_and_outlive_each_other(pair: LivingHost) -> None:
    batches = [batch(4, {3: "exit"} if number == 2 else None) for number in range(8)]

    async def body(host: ModelHost) -> None:
        assert (host.replicas_alive, host.slots) == (2, 4)
        await asyncio.gather(*(host.settle(records) for records in batches))

    pair.hosted(body)
    for number, records in enumerate(batches):
        expect_all_but(records, {3} if number == 2 else set())
