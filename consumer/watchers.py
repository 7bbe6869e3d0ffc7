"""The watchers of a running task: of its shards, its drain, its handoffs, and the leader of all workers.

Each watcher is a coroutine that runs until it is cancelled. Watchers do not process records.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from consumer.config import drain
from consumer.config.kcl_properties import WORKER_REPORT_MS
from consumer.kcl.stuck import StuckWatch, at_work
from consumer.leases import handoffs, leader_watch
from consumer.leases.takeover import LeaderWatch
from consumer.leases.watch import LeaseWatch
from consumer.leases.worker_notes import EVERY_S, WorkerNoteBook

if TYPE_CHECKING:
    from consumer.aws.clients import Aws
    from consumer.config.settings import Settings, StreamSettings
    from consumer.kcl.bridge_server import BridgeServer
    from pipeline.metrics import Metrics

log = logging.getLogger("penstock")

LOOK_EVERY_S = 5.0
"""Seconds between two checks of the progress of every shard."""


class Watchers:
    """The watchers of one task. ``stuck``: the shards without progress, and why. ``leases``: knows which shards are not
    read."""

    def __init__(self, settings: Settings, worker_id: str, aws: Aws, metrics: Metrics) -> None:
        self.stuck: dict[str, str] = {}
        self.leases: LeaseWatch | None = None
        self._settings = settings
        self._worker_id = worker_id
        self._aws = aws
        self._metrics = metrics

    async def watch_leader(self) -> None:
        """Watch the leader. This starts before the model is loaded, so that a dead leader is found during the load."""
        kcl, application = self._settings.kcl, self._settings.stream.application
        report_ms = int(kcl.properties.get("workerMetricsReporterFreqInMillis", WORKER_REPORT_MS))
        watch = LeaderWatch(self._worker_id, failover_s=kcl.failover_ms / 1000, report_s=report_ms / 1000)
        await leader_watch.watch(self._aws.client("dynamodb"), application, watch, kcl.max_leases)

    async def watch_handoffs(self, bridges: BridgeServer) -> None:
        """Complete handoffs that KCL has left unfinished; see :mod:`consumer.leases.handoffs`."""

        def busy() -> set[str]:
            return {session.shard_id for session in bridges.sessions if not session.over}

        application, watch = self._settings.stream.application, handoffs.HandoffWatch(self._worker_id)
        await handoffs.watch(self._aws.client("dynamodb"), application, watch, busy)

    @property
    def unhealthy(self) -> dict[str, str]:
        """The shards for which the task should be restarted: stuck or not read, with the reasons."""
        return (self.leases.red if self.leases is not None else {}) | self.stuck

    @property
    def unready(self) -> str | None:
        """Why the task does not read every shard that it should; None if it does."""
        return self.leases.unread.unready if self.leases is not None else "no lease yet"

    async def write_notes(self, note: WorkerNoteBook, url: str, stats: Callable[[], Mapping[str, Any]]) -> None:
        """Every few seconds, write this worker's report and the address of its health page beside the leases."""
        while True:
            await asyncio.to_thread(note.write, url, stats())
            await asyncio.sleep(EVERY_S)

    async def watch_leases(self, bridges: BridgeServer, stream: StreamSettings, stream_created_s: int) -> None:
        """Watch that every shard is read, and that the stream is still the same one."""
        self.leases = LeaseWatch(
            stream,
            stream_created_s,
            self._worker_id,
            self._settings.health.stuck_after_s,
            self._aws,
            self._metrics.outages,
            self._metrics.shards,
            lambda: bridges.sessions,
        )
        await self.leases.watch()

    async def watch_shards(self, bridges: BridgeServer, believed: drain.DrainBudget | None) -> None:
        """Check every few seconds that each shard makes progress, and that a drain would fit now."""
        watch = StuckWatch(self._settings.health.stuck_after_s)
        too_long = self._metrics.outages.part("drain")
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            sessions = at_work(bridges.sessions)
            now, wall_s = time.monotonic(), time.time()
            looks = [session.look() for session in sessions]
            for look in looks:
                self._metrics.progress.sample(look.shard_id, look.behind_s(now, wall_s), now)
            before, self.stuck = self.stuck, watch.look(looks, now)
            self._metrics.shards.stuck(len(self.stuck))
            for shard_id in self.stuck.keys() - before.keys():
                log.error("%s", self.stuck[shard_id])
            reason = drain.outgrown(believed, self._metrics.batches.p99_s, self._settings)
            if reason is None:
                too_long.worked()
            else:
                too_long.failed(reason)
