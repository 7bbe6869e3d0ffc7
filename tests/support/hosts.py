"""A real model host for one test, and records for it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil

from pipeline.events import ModelEvent
from pipeline.machine.cores import available
from pipeline.record import Dead, Enriched, Record
from pipeline.replicas.host import HostSettings, ModelHost, ModelSpec
from pipeline.testing.model_settings import host_settings

if TYPE_CHECKING:
    import pytest

DEADLINE_S = 60
ROOT = Path(__file__).resolve().parents[2]
LEAN = ROOT / "tests" / "support" / "lean"
"""First on a search path: there is no pandas, which pyarrow would import."""

CARRIED = {"user": "string", "age": "int64", "at": "timestamp"}
"""The fields that the host ``strict`` carries."""

Body = Callable[[ModelHost], Awaitable[None]]
T = TypeVar("T")


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


class LivingHost:
    """A started host that serves many tests, one after the other. Each sees its own events and calls only.

    A test waits until killed replicas are replaced, so it leaves the next one what it found. Close it at the end.
    """

    def __init__(self, folder: Path, model: str = "Toy", **more: Any) -> None:
        """``folder``: for a file that gets a line for each call of a model like ``Toy``."""
        self._calls = folder / f"calls-{uuid.uuid4()}"
        self._calls.touch()
        self._events: list[ModelEvent] = []
        self._runner = asyncio.Runner()
        self._given = settings(model, options={"calls": str(self._calls)}, **more)
        self.host, self.spec = self._run(self._started())

    async def _started(self) -> tuple[ModelHost, ModelSpec]:
        host = ModelHost(self._given, on_event=self._events.append)
        return host, await host.start()

    def hosted(self, body: Body) -> list[ModelEvent]:
        """As :func:`hosted`."""
        self._events.clear()
        self._calls.write_text("")
        try:
            self._run(body(self.host))
        finally:
            self._run(until(self._is_whole))
        return list(self._events)

    def judged(self, records: list[Record]) -> list[ModelEvent]:
        """As :func:`judged`."""
        return self.hosted(lambda host: host.settle(records))

    @property
    def calls(self) -> list[int]:
        """The sizes of the batches that the model has predicted in this test."""
        return [int(line) for line in self._calls.read_text().split()]

    def close(self) -> None:
        """Stop the host."""
        with self._runner:
            self._run(self.host.stop())

    def _is_whole(self) -> bool:
        return self.host.failed.done() or 2 * self.host.replicas_alive == self.host.slots

    def _run(self, awaited: Awaitable[T]) -> T:
        async def main() -> T:
            async with asyncio.timeout(DEADLINE_S):
                return await awaited

        return self._runner.run(main())


def living(factory: pytest.TempPathFactory, model: str = "Toy", **more: Any) -> Iterator[LivingHost]:
    """For a fixture: a host until its tests are over."""
    host = LivingHost(factory.mktemp("host"), model, **more)
    try:
        yield host
    finally:
        host.close()


async def until(condition: Callable[[], bool]) -> None:
    """Return when the condition is true; fail after a deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


def record(n: int = 0, **payload: Any) -> Record:
    data = json.dumps({"n": n, **payload}).encode() if payload else b'{"n": %d}' % n
    return Record("shardId-000000000000", data, "key", str(100 + n), 0, 1)


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


def gone(pid: int) -> bool:
    """The process has ended; it may not have been reaped yet."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def expect_threads(record: Record, threads: int) -> None:
    """Check the row that a model like ``Threads`` gave the record: torch and its libraries use as many threads."""
    assert value(record, "before") == f"{threads} {threads}"
    within = min(threads, available())  # MKL takes no more threads than there are cores, and torch asks it
    assert value(record, "torch") == within
    assert value(record, "openmp") in (threads, within)
    assert value(record, "mkl") in (within, None)  # not every build of torch has it
