"""One task of the simulated application: production's parts, connected as in :mod:`consumer.app`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from consumer import build
from consumer.kcl.protocol import Message
from consumer.kcl.session import ShardSession
from consumer.kcl.wire import Wire
from consumer.testing import FakeLeases, FakeStream, FakeWorker, Throttled, Timing
from pipeline.background import OnFailure
from pipeline.errors import Fatal
from pipeline.metrics import Metrics
from pipeline.model_process.assignment import Assignment
from pipeline.outages import Outages
from pipeline.record import Shard
from pipeline.replicas.crash_journal import CrashJournal
from pipeline.replicas.host import ModelHost
from pipeline.stage import Stage
from pipeline.stores.memory import MemoryStore
from pipeline.table.schema import TableSchema
from pipeline.testing import FakeReplica, Process
from pipeline.testing.fake_replica import FOREVER
from tests.simulation import app_model
from tests.simulation.app_downstream import Downstream
from tests.simulation.app_settings import STREAM, Settings, configured_as

CREATED_S = 1_700_000_000
SCHEMA = TableSchema(app_model.Plain.output_schema, STREAM, "m@1")
Decode = Callable[[bytes, Callable[[], Message]], Awaitable[Message]]


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that a mutant replaces."""

    session: type[ShardSession] = ShardSession
    stage: type[Stage] = Stage
    keeps_letters: bool = True


class World(Protocol):
    """What a task sees of the world."""

    stream: FakeStream
    leases: FakeLeases
    settings: Settings
    parts: Parts
    random: random.Random

    def latency(self) -> float: ...

    def store_for(self, task: Task, url: str) -> MemoryStore: ...

    def downstream_for(self, task: Task) -> Downstream: ...

    def wall_clock(self) -> datetime: ...


@dataclass(eq=False)
class Task:
    """From its start to its end. ``main`` returns when the task has left, and raises its error otherwise."""

    world: World
    process: Process
    name: str
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    sessions: list[ShardSession] = field(default_factory=list)
    metrics: Metrics = field(init=False)
    worker: FakeWorker | None = None
    stage: Stage | None = None

    def __post_init__(self) -> None:
        self.metrics = Metrics(Outages(self.process.loop.time))

    async def main(self) -> None:
        world, settings = self.world, self.world.settings
        parts = build.Parts(configured_as(settings), self._outside(), self.metrics)
        notes = parts.notes(self._switches)
        host = parts.host(notes)
        spec = await host.start()
        sinks = parts.sinks(spec.row_schema)
        if not world.parts.keeps_letters:
            sinks[0]._ledger = None  # type: ignore[attr-defined]
        try:
            for sink in sinks:
                await sink.check()
            self.stage = parts.stage(host, notes, spec, sinks, kind=world.parts.stage)
            failed: asyncio.Future[BaseException] = self.process.loop.create_future()
            self.worker = FakeWorker(
                self.name,
                world.stream,
                world.leases,
                partial(self._connect, self.stage, failed),
                pace=Timing(idle_s=1.5, take_s=2.0, read_limit=settings.read_limit),
                latency=world.latency,
                dice=world.random,
            )
            await self._consume(self.stage, host, self.worker, failed, notes)
        finally:
            for sink in sinks:
                await sink.close()
            await host.stop()

    # -- parts

    def _outside(self) -> build.Outside:
        loop = self.process.loop
        return build.Outside(
            self._client, self._store, self._replica, loop.time, self.world.wall_clock, thread=self._thread
        )

    def _thread(self, work: Callable[[], object], *, name: str, on_failure: OnFailure) -> None:
        """In simulated time: the end of a real thread would depend on the machine, and so would the history."""
        self.process.loop.run_in_executor(None, work)

    def _client(self, service: str) -> Downstream:
        assert service == "kinesis"
        return self.world.downstream_for(self)

    def _store(self, url: str) -> MemoryStore:
        return self.world.store_for(self, url)

    async def _switches(self, shard_id: str) -> int:
        await asyncio.sleep(self.world.latency())
        return self.world.leases[shard_id].switches

    def _replica(self, assignment: Assignment) -> FakeReplica:
        """The process that measures costs has no weights, and does not kill the host."""
        fells = app_model.fells if assignment.role == "predict" else lambda payloads: False
        return FakeReplica(assignment, seconds=partial(self._seconds, fells), ends=app_model.ends)

    def _seconds(self, fells: Callable[[Sequence[bytes]], bool], payloads: Sequence[bytes]) -> float:
        if fells(payloads):
            self.process.kill()
        if app_model.hangs(payloads):
            return FOREVER
        return self.world.settings.predict_s * self.world.random.uniform(0.5, 2.0)

    def _connect(self, stage: Stage, failed: asyncio.Future[BaseException], wire: Wire) -> None:
        session = self.world.parts.session(
            wire,
            stage,
            lambda shard_id: Shard(STREAM, CREATED_S, shard_id),
            self.leaving,
            self.metrics.records,
            _decode,
            clock=self.process.loop.time,
        )
        self.sessions.append(session)
        running = asyncio.create_task(session.run())

        def over(task: asyncio.Task[None]) -> None:
            self.sessions.remove(session)
            error = None if task.cancelled() else task.exception()
            if error is not None and not failed.done():
                failed.set_result(error)

        running.add_done_callback(over)

    # -- life

    async def _consume(
        self,
        stage: Stage,
        host: ModelHost,
        worker: FakeWorker,
        failed: asyncio.Future[BaseException],
        notes: CrashJournal,
    ) -> None:
        jvm = asyncio.create_task(worker.run())
        failures = [asyncio.create_task(stage.run()), asyncio.create_task(_raise(host.failed))]
        failures += [asyncio.create_task(_raise(failed)), jvm]
        leaving = asyncio.create_task(self.leaving.wait())
        left = asyncio.create_task(self._end_notes(notes))
        try:
            await asyncio.wait([leaving, *failures], return_when=asyncio.FIRST_COMPLETED)
            await _raise_first(failures)
            await self._leave(worker, failures)
        finally:
            ends = [leaving, left, *failures]
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
            await self._release(worker)

    async def _end_notes(self, notes: CrashJournal) -> None:
        await self.leaving.wait()
        await notes.leave()

    async def _leave(self, worker: FakeWorker, failures: list[asyncio.Task[Any]]) -> None:
        """Leave within the budget. The JVM takes some time before it asks the sessions."""
        self.process.loop.call_later(self.world.random.choice([0.0, 1.0, 3.0]), worker.shutdown)
        sessions = [session for session in self.sessions if session.shard_id]
        drained = asyncio.create_task(_all_over(sessions))
        try:
            budget_s = self.world.settings.budget_s
            await asyncio.wait([drained, *failures], timeout=budget_s, return_when=asyncio.FIRST_COMPLETED)
            await _raise_first(failures)
            late = [session.shard_id for session in sessions if not session.over]
        finally:
            drained.cancel()
        if late:
            raise Late(f"left without draining {', '.join(late)}")

    async def _release(self, worker: FakeWorker) -> None:
        """Like :func:`consumer.leases.leases.release`: releases what still belongs to this worker, which has ended."""
        for lease in list(self.world.leases):
            if lease.owner == worker.name:
                with suppress(Throttled):  # then it runs out by itself
                    await worker.ask(partial(self.world.leases.release, lease.shard_id, worker.name, lease.counter))


class Late(Fatal):
    """The drain took longer than its budget."""


async def _decode(line: bytes, decode: Callable[[], Message]) -> Message:
    return decode()


async def _all_over(sessions: Sequence[ShardSession]) -> None:
    await asyncio.gather(*(session.finished.wait() for session in sessions))


async def _raise(failure: asyncio.Future[BaseException]) -> None:
    raise await failure


async def _raise_first(failures: Sequence[asyncio.Task[Any]]) -> None:
    for failure in failures:
        if failure.done():
            await failure
