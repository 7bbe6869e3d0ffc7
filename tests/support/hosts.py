"""A real model host for one test, and records for it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil

from pipeline.events import ModelEvent
from pipeline.record import Dead, Enriched, Record
from pipeline.replicas.host import HostSettings, ModelHost
from pipeline.testing.model_settings import host_settings

DEADLINE_S = 60
ROOT = Path(__file__).resolve().parents[2]

Body = Callable[[ModelHost], Awaitable[None]]


def settings(model: str = "Toy", **more: Any) -> HostSettings:
    """The settings for a model of ``tests.support.models``: one replica, one thread, one retry."""
    given = {"version": "test-1", "replicas": 1, "threads": 1, "timeout_s": 30.0, "start_timeout_s": 30.0, **more}
    return host_settings(f"tests.support.models:{model}", search_path=(str(ROOT),), **given)


def hosted(body: Body, model: str = "Toy", **more: Any) -> list[ModelEvent]:
    """Run ``body`` with a started host, within a deadline. Return the host's events."""
    events: list[ModelEvent] = []

    async def main() -> None:
        host = ModelHost(settings(model, **more), on_event=events.append)
        try:
            async with asyncio.timeout(DEADLINE_S):
                await host.start()
                await body(host)
        finally:
            await host.stop()

    asyncio.run(main())
    return events


def judged(records: list[Record], model: str = "Toy", **more: Any) -> list[ModelEvent]:
    """Settle ``records`` as one batch. Return the host's events."""

    async def body(host: ModelHost) -> None:
        await host.settle(records)

    return hosted(body, model, **more)


async def until(condition: Callable[[], bool]) -> None:
    """Return when the condition is true; fail after a deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


def record(n: int = 0, **payload: Any) -> Record:
    return Record("shardId-000000000000", json.dumps({"n": n, **payload}).encode(), "key", str(100 + n), 0, 1)


def batch(size: int, bad: dict[int, str] | None = None) -> list[Record]:
    """Records numbered from 0; ``bad`` says what some of them do to the model."""
    return [record(n, **({"do": bad[n]} if bad and n in bad else {})) for n in range(size)]


def value(record: Record, column: str) -> Any:
    """The value in ``column`` of the enriched record's row."""
    assert isinstance(record.outcome, Enriched), record.outcome
    return record.outcome.table.column(column)[record.outcome.row].as_py()


def death(record: Record) -> Dead:
    assert isinstance(record.outcome, Dead), record.outcome
    return record.outcome


def expect_all_but(records: list[Record], bad: set[int]) -> None:
    """Check that every other record has its own row, and that the bad ones are dead, with their own payload."""
    for n, record in enumerate(records):
        if n in bad:
            assert death(record).payload == record.data
        else:
            assert value(record, "n") == n


def kill_host() -> None:
    """The process id of the host, from within a replica: the replica's parent is its keeper."""
    os.kill(psutil.Process(os.getppid()).ppid(), signal.SIGKILL)
    signal.pause()
