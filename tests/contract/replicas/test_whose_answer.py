"""Only the process that was started may answer, and only its own requests: no row has another record's result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from pipeline.events import ModelEvent, ReplicaReplaced
from pipeline.model_process.frames import SEAL_BYTES
from pipeline.record import Record
from pipeline.replicas.host import ModelHost
from tests.support.hosts import Body, LivingHost, batch, expect_all_but, hosted, living, record

BATCHES = 16


def in_a_row(run: Callable[[Body], list[ModelEvent]], **payload: Any) -> list[Any]:
    """Batches that overlap, like those of a stage."""
    batches = [[record(8 * number + n, **payload) for n in range(8)] for number in range(BATCHES)]

    async def body(host: ModelHost) -> None:
        for first, second in zip(batches[::2], batches[1::2], strict=True):
            await asyncio.gather(host.settle(first), host.settle(second))

    events = run(body)
    for number, records in enumerate(batches):
        for n, each in enumerate(records):
            assert each.outcome.table.column("n")[each.outcome.row].as_py() == 8 * number + n  # type: ignore[union-attr]
    return events


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivingHost]:
    yield from living(tmp_path_factory, "Forks")


@pytest.mark.parametrize("when", ["load", "predict", "native", "exits"])
def test_a_child_that_continues_as_the_replica_cannot_answer(forks: LivingHost, when: str) -> None:
    """One from the start, which the other ways have besides their own."""
    assert not [event for event in in_a_row(forks.hosted, fork=when) if isinstance(event, ReplicaReplaced)]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_model_may_have_its_own_processes(method: str) -> None:
    run = partial(hosted, model="HasAPool", options={"method": method})
    assert not [event for event in in_a_row(run) if isinstance(event, ReplicaReplaced)]


@pytest.fixture(scope="module")
def thieves(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivingHost]:
    yield from living(tmp_path_factory, "Steals", timeout_s=2.0, retries=0)


def until_replaced(thieves: LivingHost, first: Record) -> list[ModelEvent]:
    """Settle a record that damages the stream, then batches until the replica is another one: each has its rows."""
    later: list[list[Record]] = []

    async def body(host: ModelHost) -> None:
        before = host.pids
        await host.settle([first])
        while not later or host.pids == before:
            later.append(batch(4))
            await host.settle(later[-1])

    events = thieves.hosted(body)
    for records in later:
        expect_all_but(records, set())
    return events


@pytest.mark.parametrize("deed", ["steal", "write"])
@pytest.mark.parametrize("size", [1, 12, 100, 100_000])
def test_another_process_on_the_replicas_socket_ends_the_replica(thieves: LivingHost, deed: str, size: int) -> None:
    """Records of requests that were damaged are tried again."""
    assert until_replaced(thieves, record(0, do=deed, bytes=size))


@pytest.mark.parametrize("seal_size", [0, SEAL_BYTES])
def test_an_answer_without_the_seal_of_a_request_ends_the_replica(thieves: LivingHost, seal_size: int) -> None:
    events = until_replaced(thieves, record(0, do="forge", bytes=seal_size))
    reasons = {event.reason for event in events if isinstance(event, ReplicaReplaced)}
    assert reasons <= {"answered without a request", "sent a frame that does not end with its seal"} and reasons
