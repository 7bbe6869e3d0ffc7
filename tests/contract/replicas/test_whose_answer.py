"""Only the process that was started may answer, and only its own requests: no row has another record's result."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipeline.events import ReplicaReplaced
from pipeline.replicas.host import ModelHost
from tests.support.hosts import batch, expect_all_but, hosted, record

BATCHES = 40


def in_a_row(model: str, **options: Any) -> list[Any]:
    """Batches that overlap, like those of a stage."""
    batches = [[record(8 * number + n) for n in range(8)] for number in range(BATCHES)]

    async def body(host: ModelHost) -> None:
        for first, second in zip(batches[::2], batches[1::2], strict=True):
            await asyncio.gather(host.settle(first), host.settle(second))

    events = hosted(body, model, options=options)
    for number, records in enumerate(batches):
        for n, each in enumerate(records):
            assert each.outcome.table.column("n")[each.outcome.row].as_py() == 8 * number + n  # type: ignore[union-attr]
    return events


@pytest.mark.parametrize("where", ["load", "predict", "native", "exits"])
def test_a_child_that_continues_as_the_replica_cannot_answer(where: str) -> None:
    assert not [event for event in in_a_row("Forks", where=where) if isinstance(event, ReplicaReplaced)]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_model_may_have_its_own_processes(method: str) -> None:
    assert not [event for event in in_a_row("HasAPool", method=method) if isinstance(event, ReplicaReplaced)]


@pytest.mark.parametrize("deed", ["steal", "write"])
@pytest.mark.parametrize("size", [1, 12, 100, 100_000])
def test_another_process_on_the_replicas_socket_ends_the_replica(deed: str, size: int) -> None:
    """Records of requests that were damaged are tried again."""
    first, second = batch(4), batch(4)
    first[1] = record(1, do=deed, bytes=size)

    async def body(host: ModelHost) -> None:
        await host.settle(first)
        await host.settle(second)

    hosted(body, "Steals", timeout_s=2.0, retries=0)
    expect_all_but(second, set())
