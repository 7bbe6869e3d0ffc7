"""One task, from start to end. Every part is created and connected here.

    check the settings ─▶ warm up the model ─▶ start the JVM ─▶ consume ─▶ drain ─▶ release the leases

The parts: KCL's JVM (:mod:`consumer.kcl.daemon`) starts a bridge per shard (:mod:`consumer.kcl.bridge`); each bridge
gets a session (:mod:`consumer.kcl.session`) that admits records to the one stage (:mod:`pipeline.stage`) of the task.
How a task ends is in :mod:`consumer.leaving`, what it watches in :mod:`consumer.watchers`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import uuid
from collections.abc import Coroutine
from contextlib import AsyncExitStack, nullcontext
from functools import partial
from typing import Any, TypeVar

from consumer import build, stats_line
from consumer.aws.clients import Aws
from consumer.config import drain, profile
from consumer.config.settings import Settings, StreamSettings
from consumer.http.health import Health
from consumer.kcl.bridge_server import BridgeServer
from consumer.kcl.daemon import Daemon
from consumer.last_resort import LastResort
from consumer.leases import joining, leases
from consumer.leases.worker_notes import WorkerNoteBook
from consumer.leaving import Asked, Departure, unless
from consumer.poison.careful_readings import CarefulReadings
from consumer.poison.notes import LeaseNotes
from consumer.poison.session_notes import Doubts
from consumer.shard_readers import Extent, ShardReaders, WholeStream
from consumer.signals import Signals
from consumer.watchers import Watchers
from consumer.worker_report import WorkerReport, reached_at
from pipeline import background, reaper
from pipeline.background import Background
from pipeline.batching import utilization
from pipeline.errors import Broken, PenstockError, one_line
from pipeline.metrics import Metrics
from pipeline.stage import Stage

log = logging.getLogger("penstock")

T = TypeVar("T")

GIVE_UP_S = 30.0
"""Seconds for a task that ends with an error to end the JVM and the replicas, and to free the leases."""

AGAIN = -1
"""A task's result that is not an exit code."""


def run(settings: Settings) -> int:
    """Consume until SIGTERM or SIGINT, then drain. Returns the exit code; raises ``PenstockError`` with the reason.

    A task that has ended its JVM to read a shard carefully is followed by another one.
    """
    with Signals() as signals:
        while (code := asyncio.run(Task(settings, signals).run())) == AGAIN:
            log.info("restarting after a careful reading")
    return code


class Task:
    """One worker: a model host, a stage, a JVM. ``signals``: those of the process; by default, the task installs its
    own."""

    def __init__(self, settings: Settings, signals: Signals | None = None, extent: Extent | None = None) -> None:
        self.settings = settings
        self.signals = signals
        self.extent = extent or WholeStream()
        self.worker_id = f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}"
        self.metrics = Metrics()
        self.aws = Aws()
        self.leaving = asyncio.Event()
        """Start leaving: the task was asked to, or it leaves by itself to start again."""
        self.asked = asyncio.Event()
        self.set_aside: set[str] = set()
        self.last_resort = LastResort()
        self.background: Background
        self.watchers = Watchers(settings, self.worker_id, self.aws, self.metrics)
        notes = LeaseNotes(lambda: self.aws.client("dynamodb"), settings.stream.application)
        self.doubts = Doubts(notes, self.worker_id, self._aside)
        self.careful_readings = CarefulReadings(notes, self.doubts, failover_s=settings.kcl.failover_ms / 1000)
        self.report = WorkerReport(
            settings,
            self.worker_id,
            self.metrics,
            self.watchers,
            careful=lambda: self.careful_readings.busy,
            leaving=self.leaving.is_set,
        )

    async def run(self) -> int:
        """Run the task and return the exit code. Raises the first error that ended the task, not later ones."""
        self.background = Background(lambda error: self.last_resort.arm(GIVE_UP_S, str(error)))
        listening = nullcontext(self.signals) if self.signals else Signals()
        with self.background.listen(), self.last_resort, listening as signals:
            signals.tell(self._leave_now)
            if reaper.adopts():
                self.background.start(reaper.reap, "the reaper of orphans")
            try:
                return await self._until_left()
            except Asked:
                log.info("told to leave (SIGTERM or Ctrl-C) before taking a lease")
                return 0
            except (PenstockError, asyncio.CancelledError):
                raise
            except BaseException as error:
                log.exception("the task failed")
                raise Broken(f"the task failed: {one_line(error)}") from error
            finally:
                self.background.raise_failure()

    async def _until_left(self) -> int:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.background.stop)
            try:
                return await self._run(stack)
            except Exception as error:
                self.last_resort.arm(GIVE_UP_S, str(error) or type(error).__name__)
                raise

    async def _run(self, stack: AsyncExitStack) -> int:
        """Create every part in order; they are closed in reverse, whatever happens."""
        settings, report = self.settings, self.report
        checks = (report.unhealthy, report.unready, self.background.failed, report.stats)
        health = await stack.enter_async_context(Health(settings.health, self.metrics, *checks))
        created_s = await self._unless_leaving(asyncio.to_thread(self.aws.stream_created_s, settings.stream.name))
        stream = await self._unless_leaving(asyncio.to_thread(joining.join, settings, self.aws, created_s))
        daemon = Daemon(settings.kcl, stream, self.worker_id)
        stack.push_async_callback(daemon.close)
        self._watch_while_the_model_loads(health, stack)
        stage, longest_drain = await self._warm_up(stack)
        readers = ShardReaders(settings, stream, created_s, stage, self.metrics, self.extent)
        stack.callback(readers.close)
        session = partial(readers.session, leaving=self.leaving, doubts=self.doubts)
        bridges = BridgeServer(session, self.metrics.rejected_connection)
        await bridges.listen(daemon.socket_path)
        stack.push_async_callback(bridges.close)
        report.sessions = lambda: bridges.sessions
        careful = readers.careful(self.aws, self.careful_readings.notes, self.worker_id)
        await unless(self.leaving, partial(self.careful_readings.at_start, careful, self.background.failing))
        await self._unless_leaving(asyncio.to_thread(joining.make_leases, self.aws, stream))
        await daemon.start()
        self._tell_that_it_consumes(stream, health)
        watching = partial(self.watchers.watch_leases, bridges, stream, created_s)
        self.background.start(watching, "the watcher of the leases")
        departure = Departure(
            settings,
            self.worker_id,
            self.aws,
            self.careful_readings,
            careful,
            background=self.background,
            asked=self.asked,
        )
        return await self._consume(departure, bridges, daemon, longest_drain)

    def _watch_while_the_model_loads(self, health: Health, stack: AsyncExitStack) -> None:
        """Start this before the model is loaded: a dead leader is found during the load, and ``penstock status`` sees
        this worker."""
        self.background.start(self.watchers.watch_leader, "the watcher of the leader")
        dynamodb, application = lambda: self.aws.client("dynamodb"), self.settings.stream.application
        note = WorkerNoteBook(dynamodb, application, self.worker_id)
        url = reached_at(health.url, self.settings.health.host)
        noting = partial(self.watchers.write_notes, note, url, self.report.stats)
        self.background.start(noting, "the report beside the leases")
        stack.push_async_callback(asyncio.to_thread, note.leave)

    async def _warm_up(self, stack: AsyncExitStack) -> tuple[Stage, drain.DrainBudget | None]:
        """Start the stage, once the model has predicted and every sink has been checked. Returns it, and the longest
        drain if known."""
        settings = self.settings
        log.info("%s", profile.find(settings).said)
        parts = build.Parts(settings, build.Outside.of(self.aws), self.metrics)
        switches = partial(leases.switches, self.aws.client("dynamodb"), settings.stream.application)
        notes = parts.notes(partial(asyncio.to_thread, switches))
        await self._unless_leaving(notes.check())
        self.background.start(partial(_when, self.asked, notes.leave), "the end of the crash notes", endless=False)
        host = parts.host(notes)
        stack.push_async_callback(host.stop)
        spec = await self._unless_leaving(host.start())
        longest_drain = drain.check(settings, spec.example_s)
        log.info("%s", drain.told(longest_drain))
        if said := drain.check_timeout(settings, spec.example_s):
            log.warning("%s", said)
            host.expect(settings.batch.max_records)
        sinks = parts.sinks(spec.row_schema)
        for sink in sinks:
            stack.push_async_callback(sink.close)
            await self._unless_leaving(sink.check())
        stage = parts.stage(host, notes, spec, sinks)
        self.background.start(stage.run, "the stage")
        self.background.start(partial(_raise, host.failed), "the model host")
        return stage, longest_drain

    def _tell_that_it_consumes(self, stream: StreamSettings, health: Health) -> None:
        self.report.warm = True
        gc.freeze()  # what a start has made, modules above all, lives to the end: no look for garbage passes through it
        gc.enable()
        self.background.start(partial(stats_line.write, self.report.stats), "the line of figures in the log")
        log.info("worker %s consumes %s", self.worker_id, stream.name, extra={"health": health.url})
        for line in build.waits_of(self.settings):
            log.info("%s", line)

    async def _consume(
        self, departure: Departure, bridges: BridgeServer, daemon: Daemon, longest_drain: drain.DrainBudget | None
    ) -> int:
        """Wait until the task is asked to leave, or until something that must not end has ended."""
        working: dict[str, background.Work] = {
            "the bridges": partial(_raise, bridges.failure),
            "the watcher of the shards": partial(self.watchers.watch_shards, bridges, longest_drain),
            "the watcher of the handoffs": partial(self.watchers.watch_handoffs, bridges),
            "the watcher of the end of the slice": partial(self._leave_once_all_is_read, bridges),
            "the check of KCL's classes": partial(daemon.check_aggregator, lambda: bool(bridges.sessions)),
        }
        for name, work in working.items():
            self.background.start(work, name)
        try:
            await background.first_of(self.leaving.wait, self.background.failing, partial(_jvm_ended, daemon))
            await departure.leave(bridges, daemon, self.set_aside)
        except Asked:
            return 0
        except Exception as error:
            await departure.give_up(bridges, daemon, error)
            raise
        else:
            return AGAIN if self.set_aside and not self.asked.is_set() else 0
        finally:
            await self.background.stop()
            log.info("the replicas' time: %s", utilization.described(self.metrics.replica_time.shares()) or "unused")
            log.info("totals", extra={"totals": self.metrics.snapshot()})

    # -- reasons to leave

    def _leave_now(self) -> None:
        """Handle SIGTERM or SIGINT: begin to leave."""
        budget_s = self.settings.drain.budget_s
        self.last_resort.arm(
            budget_s + drain.LEAVE_S, f"asked to leave, and still here after drain.budget_s {budget_s:g} s"
        )
        self.asked.set()
        self.leaving.set()

    def _aside(self, shard_id: str) -> None:
        """KCL has assigned a shard in doubt: drain the others and end the JVM, then read that shard without KCL."""
        self.set_aside.add(shard_id)
        self.leaving.set()

    async def _leave_once_all_is_read(self, bridges: BridgeServer) -> None:
        await self.extent.read(self.settings, self.aws, bridges, self.metrics)
        self.leaving.set()
        await asyncio.Event().wait()

    async def _unless_leaving(self, work: Coroutine[Any, Any, T]) -> T:
        """Await ``work``, or cancel it when the task is asked to leave: before the first lease there is nothing to
        drain."""
        results: list[T] = []

        async def done() -> None:
            results.append(await work)

        await background.first_of(done, self.leaving.wait, self.background.failing)
        if not results:
            raise Asked
        return results[0]


async def _when(asked: asyncio.Event, work: background.Work) -> None:
    await asked.wait()
    await work()


async def _raise(failure: asyncio.Future[BaseException]) -> None:
    raise await failure


async def _jvm_ended(daemon: Daemon) -> None:
    status = await daemon.wait()
    raise daemon.failure or Broken(
        f"the JVM ended by itself (exit status {status}); its last messages are in the log above"
    )
