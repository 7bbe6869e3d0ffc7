"""One task, from start to end. Every part is created and connected here.

    check the settings ─▶ warm up the model ─▶ start the JVM ─▶ consume ─▶ drain ─▶ release the leases

The parts: KCL's JVM (:mod:`consumer.kcl.daemon`) starts a bridge per shard (:mod:`consumer.kcl.bridge`); each bridge
gets a session (:mod:`consumer.kcl.session`) that admits records to the one stage (:mod:`pipeline.stage`) of the task.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
import uuid
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import AsyncExitStack, nullcontext
from functools import partial
from typing import Any, TypeVar

from consumer import build, stats_line
from consumer.aws.clients import Aws
from consumer.config import drain, profile
from consumer.config.kcl_properties import READS_AHEAD, read_at_once
from consumer.config.settings import Settings, StreamSettings
from consumer.http.health import Health
from consumer.kcl.bounded import RateLimit, ShardSlice
from consumer.kcl.bridge_server import BridgeServer, Decoder
from consumer.kcl.daemon import Daemon
from consumer.kcl.session import ShardSession
from consumer.kcl.wire import Wire
from consumer.last_resort import LastResort
from consumer.leases import joining, leases
from consumer.leases.worker_notes import WorkerNoteBook
from consumer.poison.doubts import Doubts, may_be_a_records_doing
from consumer.poison.notes import LeaseNotes
from consumer.poison.pages import LeasePages
from consumer.poison.reader import Pages, PoisonReader
from consumer.poison.way_past import WayPast
from consumer.signals import Signals
from consumer.watchers import Watchers
from consumer.worker_stats import WorkerStats, reached_at
from pipeline import background, reaper
from pipeline.background import Background
from pipeline.batching import utilization
from pipeline.errors import Broken, Fatal, PenstockError, one_line
from pipeline.metrics import Metrics
from pipeline.record import Shard
from pipeline.stage import Stage

log = logging.getLogger("penstock")

T = TypeVar("T")

MIB = 1024 * 1024

GIVE_UP_S = 30.0
"""For a task that ends with an error: to end the JVM and the replicas, and to free the leases."""


AGAIN = -1
"""A task's result that is not an exit code."""


class Leaving(Exception):
    """SIGTERM or SIGINT came before there was anything to drain."""


def run(settings: Settings) -> int:
    """Consume until SIGTERM or SIGINT, then drain. Returns the exit code; raises ``PenstockError`` with the reason.

    A task that has ended its JVM to read a shard carefully is followed by another one.
    """
    with Signals() as signals:
        while (code := asyncio.run(Task(settings, signals).run())) == AGAIN:
            log.info("restarting after a careful reading")
    return code


class Task:
    """One worker: a model host, a stage, a JVM. ``signals``: those of the process; else it listens by itself."""

    def __init__(self, settings: Settings, signals: Signals | None = None) -> None:
        self.settings = settings
        self.signals = signals
        self.worker_id = f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}"
        self.metrics = Metrics()
        self.leaving = asyncio.Event()
        self.told = asyncio.Event()
        """Start leaving. A signal came, or the task leaves by itself to start again."""
        self.set_aside: set[str] = set()
        self.last_resort = LastResort()
        self.background: Background
        self.aws = Aws()
        self.watchers = Watchers(settings, self.worker_id, self.aws, self.metrics)
        notes = LeaseNotes(lambda: self.aws.client("dynamodb"), settings.stream.application)
        self.doubts = Doubts(notes, self.worker_id, self._aside)
        self.past = WayPast(notes, self.doubts, failover_s=settings.kcl.failover_ms / 1000)
        self.stats = WorkerStats(
            settings,
            self.worker_id,
            self.metrics,
            self.watchers,
            careful=lambda: self.past.busy,
            leaving=self.leaving.is_set,
        )
        self.note = WorkerNoteBook(lambda: self.aws.client("dynamodb"), settings.stream.application, self.worker_id)
        self.warm = False

    async def run(self) -> int:
        """The exit code. Raises the first error that ended the task, not later ones."""
        self.background = Background(lambda error: self.last_resort.arm(GIVE_UP_S, str(error)))
        listening = nullcontext(self.signals) if self.signals else Signals()
        with self.background.listen(), self.last_resort, listening as signals:
            signals.tell(self._leave_now)
            if reaper.adopts():
                self.background.start(reaper.reap, "the reaping of orphans")
            try:
                return await self._until_left()
            except Leaving:
                log.info("asked to leave before the first lease was taken")
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
        settings = self.settings
        health = await stack.enter_async_context(
            Health(settings.health, self.metrics, self._alive, self._ready, self.background.failed, self.stats)
        )
        created_s = await self._unless_leaving(asyncio.to_thread(self.aws.stream_created_s, settings.stream.name))
        stream = await self._unless_leaving(asyncio.to_thread(joining.join, settings, self.aws, created_s))
        daemon = Daemon(settings.kcl, stream, self.worker_id)
        stack.push_async_callback(daemon.close)
        self.background.start(self.watchers.over_the_leader, "the watch over the leader")
        noting = partial(
            self.watchers.over_the_note, self.note, reached_at(health.url, settings.health.host), self.stats
        )
        self.background.start(noting, "the note of this worker")
        stack.push_async_callback(asyncio.to_thread, self.note.leave)
        log.info("%s", profile.find(settings).said)
        parts = build.Parts(settings, build.Outside.of(self.aws), self.metrics)
        notes = parts.notes(self._switches)
        await self._unless_leaving(notes.check())
        host = parts.host(notes)
        stack.push_async_callback(host.stop)
        spec = await self._unless_leaving(host.start())
        drain_sum = drain.check(settings, spec.example_s)
        if said := drain.check_timeout(settings, spec.example_s):
            log.warning("%s", said)
            host.expect(settings.batch.max_records)
        if drain_sum:
            log.info("a drain takes at most %s", drain_sum)
        else:
            log.info("drain time unknown: define example() on the model to have it checked at start")
        sinks = parts.sinks(spec.row_schema)
        for sink in sinks:
            stack.push_async_callback(sink.close)
            await self._unless_leaving(sink.check())
        stage = parts.stage(host, notes, spec, sinks)
        bridges = BridgeServer(self._session_maker(stage, created_s, stack), self.metrics.rejected_connection)
        await bridges.listen(daemon.socket_path)
        stack.push_async_callback(bridges.close)
        self.stats.sessions = lambda: bridges.sessions
        self.background.start(stage.run, "the stage")
        self.background.start(partial(_raise, host.failed), "the model host")
        careful = self._careful(stage, created_s, stream)
        await self._unless(self.leaving, partial(self.past.at_start, careful, self.background.failing))
        await self._unless_leaving(asyncio.to_thread(joining.make_leases, self.aws, stream))
        await daemon.start()
        self.warm = True
        self.background.start(partial(stats_line.write, self.stats), "the line of figures in the log")
        log.info("worker %s consumes %s", self.worker_id, stream.name, extra={"health": health.url})
        for line in build.waits_of(settings):
            log.info("%s", line)
        watching = partial(self.watchers.over_the_leases, bridges, stream, created_s)
        self.background.start(watching, "the watch over the leases")
        return await self._consume(careful, bridges, daemon, drain_sum)

    # -- parts

    def _session_maker(self, stage: Stage, created_s: int, stack: AsyncExitStack) -> Callable[[Wire], ShardSession]:
        decoder = Decoder()
        stack.callback(decoder.close)
        name = self.settings.stream.name

        def session(wire: Wire) -> ShardSession:
            return ShardSession(
                wire,
                stage,
                lambda shard_id: Shard(name, created_s, shard_id),
                self.leaving,
                self.metrics.records,
                decoder,
                doubts=self.doubts,
                bounds=self.session_bounds,
                rate=self.rate,
            )

        return session

    def _careful(self, stage: Stage, created_s: int, stream: StreamSettings) -> PoisonReader:
        return PoisonReader(
            stage,
            self.past.notes,
            self.pages(stream),
            lambda shard_id: Shard(stream.name, created_s, shard_id),
            self.worker_id,
            give_up_after=stream.give_up_after_tasks,
            reads_ahead=READS_AHEAD * read_at_once(self.settings.kcl),
            on_event=self.metrics.model.note,
        )

    def session_bounds(self, shard_id: str) -> ShardSlice | None:
        """The part of each shard that is read; None: all of it."""
        return None

    @property
    def rate(self) -> RateLimit | None:
        """The rate limit of all sessions of the task together; None: no limit."""
        return None

    def pages(self, stream: StreamSettings) -> Pages:
        """What a careful reader sees of a shard."""
        return LeasePages(lambda: self.aws.client("kinesis"), stream)

    async def over_the_slice(self, bridges: BridgeServer) -> None:
        """Watch for the end of a slice, until cancelled."""
        await asyncio.Event().wait()

    async def _switches(self, shard_id: str) -> int:
        """How often the shard's lease has changed hands since its last checkpoint, as KCL counts it."""
        application = self.settings.stream.application
        return await asyncio.to_thread(leases.switches, self.aws.client("dynamodb"), application, shard_id)

    def _alive(self) -> str | None:
        """Why the task is not healthy; None if it is. The event loop runs, or there would be no answer at all."""
        stopped = self.metrics.dead_letters.stop_reason
        return "; ".join([*filter(None, [stopped]), *self.watchers.unwell.values()]) or None

    def _ready(self) -> str | None:
        if self.past.busy:
            return f"reads {', '.join(sorted(self.past.busy))} carefully"
        if self.leaving.is_set():
            return "leaving"
        if not self.warm:
            return "the model is not warm yet"
        return self.watchers.unready

    # -- life

    def _leave_now(self) -> None:
        budget_s = self.settings.drain.budget_s
        self.last_resort.arm(
            budget_s + drain.LEAVE_S, f"asked to leave, and still here after drain.budget_s {budget_s:g} s"
        )
        self.told.set()
        self.leaving.set()

    def _aside(self, shard_id: str) -> None:
        """KCL has assigned a shard in doubt: drain the others and end the JVM, then read that shard without KCL."""
        self.set_aside.add(shard_id)
        self.leaving.set()

    async def _unless(self, told: asyncio.Event, work: background.Work) -> None:
        """Await ``work``, or end it properly when asked to leave."""
        if await background.first_of(work, told.wait) == 1:
            raise Leaving

    async def _unless_leaving(self, work: Coroutine[Any, Any, T]) -> T:
        """Await ``work``, or give it up when asked to leave: before the first lease there is nothing to drain."""
        results: list[T] = []

        async def done() -> None:
            results.append(await work)

        await background.first_of(done, self.leaving.wait, self.background.failing)
        if not results:
            raise Leaving
        return results[0]

    async def _consume(
        self, careful: PoisonReader, bridges: BridgeServer, daemon: Daemon, drain_sum: drain.DrainBudget | None
    ) -> int:
        """Wait until asked to leave, or until something ends that must not."""
        working: dict[str, background.Work] = {
            "the bridges": partial(_raise, bridges.failure),
            "the watch over the shards": partial(self.watchers.over_the_shards, bridges, drain_sum),
            "the watch over handoffs": partial(self.watchers.over_handoffs, bridges),
            "the watch over the end": partial(self.over_the_slice, bridges),
            "the look at KCL's classes": partial(daemon.must_hand_over_whole, lambda: bool(bridges.sessions)),
        }
        for name, work in working.items():
            self.background.start(work, name)
        try:
            await background.first_of(self.leaving.wait, self.background.failing, partial(_jvm_ended, daemon))
            await self._leave(careful, bridges, daemon)
        except Leaving:
            return 0
        except Exception as error:
            await self._give_up(careful, bridges, daemon, error)
            raise
        else:
            return AGAIN if self.set_aside and not self.told.is_set() else 0
        finally:
            await self.background.stop()
            log.info("the replicas' time: %s", utilization.described(self.metrics.replica_time.shares()) or "unused")
            log.info("totals", extra={"totals": self.metrics.snapshot()})

    async def _leave(self, careful: PoisonReader, bridges: BridgeServer, daemon: Daemon) -> None:
        """Drain every shard, end the JVM, free the leases. Records that are not drained in time will be read again.

        KCL's leader may assign a drained shard again within seconds; its session admits nothing and is not awaited.
        """
        budget_s = self.settings.drain.budget_s
        sessions = [session for session in bridges.sessions if session.shard_id]
        log.info("leaving: draining %d shards within %g s", len(sessions), budget_s)
        daemon.terminate()
        drained = partial(_all_over, sessions)
        try:
            await background.first_of(drained, daemon.wait, self.background.failing, timeout_s=budget_s)
            late = [session.shard_id for session in sessions if not session.over]
        finally:
            drained_s = time.monotonic()
            daemon.kill()
            await daemon.wait()
            log.info("the JVM ended %.2f s after the drain", time.monotonic() - drained_s)
        await self._release_and_read(careful, self.set_aside)
        if late:
            raise Fatal(
                f"{', '.join(late)} did not drain within kcl.shutdown_grace_s "
                f"({self.settings.kcl.shutdown_grace_s:g} s). Records that were not checkpointed will be read again"
            )
        log.info("drained every shard and released the leases")

    async def _give_up(self, careful: PoisonReader, bridges: BridgeServer, daemon: Daemon, error: Exception) -> None:
        """End with an error: free the leases and the leader's lock, so that others need not wait until they expire.

        If only KCL has ended, shards in doubt because of that are read at once.
        """
        begun = [session.shard_id for session in bridges.sessions if session.shard_id and not session.over]
        daemon.kill()
        await daemon.wait()
        await bridges.close()
        try:
            await self.past.note_end(error, self.worker_id, begun)
            await self._release_and_read(careful, None if may_be_a_records_doing(error) else ())
        except Exception as another:  # noqa: BLE001  # the error that ended the task is reported, not this one
            log.warning("the task did not end in order: %s", another)

    async def _release_and_read(self, careful: PoisonReader, shard_ids: Collection[str] | None) -> None:
        """Free the leases, and read carefully what is in doubt in these shards; None: in any. Only without a JVM."""
        able = not self.told.is_set() and not self.background.failure.done()
        held = await self.past.take(careful, self.worker_id, shard_ids) if able else []
        await asyncio.to_thread(self._release)
        if held:
            await self._unless(self.told, partial(self.past.read, careful, held, self.background.failing))

    def _release(self) -> None:
        """Only after the JVM is dead: then no other process of this task uses its leases.

        :raises Fatal: DynamoDB refuses or does not answer. No record has caused that.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        application, kcl = self.settings.stream.application, self.settings.kcl
        try:
            leases.release(self.aws.client("dynamodb"), application, self.worker_id, kcl.max_leases)
        except (BotoCoreError, ClientError) as error:
            expiry_s = kcl.failover_ms / 1000
            raise Fatal(f"the leases were not released; they expire in {expiry_s:g} s: {one_line(error)}") from error


async def _all_over(sessions: Sequence[ShardSession]) -> None:
    await asyncio.gather(*(session.finished.wait() for session in sessions))


async def _raise(failure: asyncio.Future[BaseException]) -> None:
    raise await failure


async def _jvm_ended(daemon: Daemon) -> None:
    status = await daemon.wait()
    raise daemon.failure or Broken(
        f"the JVM ended by itself (exit status {status}); its last messages are in the log above"
    )
