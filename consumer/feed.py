"""Runs records through the model as in a task, without KCL and a stream: for ``penstock try`` and redrives.

Uses the same batcher, replicas, retries and bisection with the same settings; the caller gets the results.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from consumer.build import Outside, Parts
from pipeline import background
from pipeline.errors import Broken, UserError
from pipeline.metrics import Metrics
from pipeline.record import Position, Record, Run, Shard
from pipeline.replicas.host import ModelHost, ModelSpec
from pipeline.replicas.process import ReplicaProcess
from pipeline.stage import Stage
from pipeline.stores.base import ObjectStore
from pipeline.stores.memory import MemoryStore
from pipeline.table.schema import TableSchema

if TYPE_CHECKING:
    from consumer.config.settings import Settings
    from pipeline.model_process.assignment import Assignment
    from pipeline.sinks import OnDurable

Link = Callable[["Assignment"], ReplicaProcess]
Switches = Callable[[str], Awaitable[int]]


class Feed:
    """``async with Feed(settings) as feed``: loads the model, and ends it at exit.

    ``link`` starts a replica. No limit of dead letters ends the feed. Nothing is written anywhere, except notes of
    tries that may end the process: into ``crashes`` (memory by default). ``switches`` says how much a shard is in
    doubt, as :class:`pipeline.replicas.crash_journal.CrashJournal` asks.

    :raises UserError: the model cannot be used: ``ModelError``, ``ConfigError``.
    """

    spec: ModelSpec
    schema: TableSchema

    def __init__(
        self,
        settings: Settings,
        *,
        link: Link = ReplicaProcess,
        crashes: ObjectStore | None = None,
        switches: Switches | None = None,
    ) -> None:
        letters = settings.dead_letter.model_copy(update={"max_consecutive": 0, "max_ratio": 1.0})
        self._settings = settings.model_copy(update={"dead_letter": letters})
        self._link = link
        self._crashes = crashes or MemoryStore()
        self._switches = switches or _no_switches
        self._stack = AsyncExitStack()
        self._stage: Stage
        self._failures: list[asyncio.Future[BaseException]] = []

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def settle(self, shard: Shard, records: Sequence[Record]) -> None:
        """Return once each record has its outcome. ``records``: of one shard, in sequence order.

        :raises Fatal: the model's host cannot go on.
        """
        lane = self._stage.open(shard, None)
        try:
            self._stage.admit(lane, records)
            await self._or_a_failure(partial(self._stage.end, lane))
            if any(record.outcome is None for record in records):
                raise Broken("the stage ended a shard whose records were not settled")
        finally:
            self._stage.abandon(lane)

    async def _start(self) -> None:
        settings = self._settings
        parts = Parts(settings, Outside(_no_aws, lambda url: self._crashes, self._link), Metrics())
        notes = parts.notes(self._switches)
        host = parts.host(notes)
        self._stack.push_async_callback(host.stop)
        self.spec = await host.start()
        model = settings.model
        self.schema = TableSchema(self.spec.row_schema, settings.stream.name, model.version, model.passthrough)
        self._stage = parts.stage(host, notes, self.spec, [_Nowhere()], kind=_QuietStage)
        self._begin(host)

    def _begin(self, host: ModelHost) -> None:
        failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        running = background.start(self._stage.run, name="the stage", on_failure=_first(failed), endless=True)
        self._failures = [failed, host.failed]
        self._stack.push_async_callback(_cancelled, running)

    async def _or_a_failure(self, work: Callable[[], Awaitable[None]]) -> None:
        """Return once ``work`` is done; raise why it, the stage or the host has failed."""
        failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        task = background.start(work, name="the end of a shard", on_failure=_first(failed))
        failures = [failed, *self._failures]
        waited: list[asyncio.Future[Any]] = [task, *failures]
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if failure := next((each for each in failures if each.done()), None):
                raise failure.result()
        finally:
            task.cancel()


def _first(failed: asyncio.Future[BaseException]) -> Callable[[BaseException], None]:
    return lambda error: None if failed.done() else failed.set_result(error)


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _no_aws(service: str) -> Any:
    raise UserError(f"{service}: this command calls no AWS")


async def _no_switches(shard_id: str) -> int:
    return 0


class _QuietStage(Stage):
    """Does not log dead letters: the caller reports them."""

    def __init__(self, *parts: Any, **more: Any) -> None:
        super().__init__(*parts, **{**more, "letters": None})


class _Nowhere:
    """A sink that discards rows: the caller has the records."""

    name = "nowhere"
    wants_payloads = False

    async def check(self) -> None:
        return

    def open(self, shard: Shard, on_durable: OnDurable, on_fatal: Callable[[BaseException], None]) -> _Passed:
        return _Passed(on_durable)

    async def close(self) -> None:
        return


class _Passed:
    backlog_bytes = 0

    def __init__(self, on_durable: OnDurable) -> None:
        self._on_durable = on_durable

    async def resume(self, first: Record, checkpoint: Position | None) -> Position | None:
        return None

    def write(self, run: Run) -> None:
        self._on_durable(run.end)

    async def flush(self) -> None:
        return

    def abandon(self) -> None:
        return
