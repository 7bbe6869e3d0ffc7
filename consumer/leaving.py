"""How a task ends: it drains its shards, ends its JVM, and frees its leases. After an error it does not drain.

Shards that the task has set aside, or that are in doubt because its JVM has died, are then read without KCL
(:mod:`consumer.poison`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from consumer.leases import leases
from consumer.poison.session_notes import may_be_caused_by_a_record
from pipeline import background
from pipeline.errors import Fatal, counted, one_line

if TYPE_CHECKING:
    from consumer.aws.clients import Aws
    from consumer.config.settings import Settings
    from consumer.kcl.bridge_server import BridgeServer
    from consumer.kcl.daemon import Daemon
    from consumer.kcl.session import ShardSession
    from consumer.poison.careful_readings import CarefulReadings
    from consumer.poison.reader import PoisonReader

log = logging.getLogger("penstock")


class Asked(Exception):
    """The task was asked to leave. Raised where there is nothing to drain."""


class Departure:
    """The end of one task. ``careful`` reads the shards in doubt with the task's stage, which must still run. ``asked``
    is set when the process was asked to end: then no more shards are read carefully."""

    def __init__(
        self,
        settings: Settings,
        worker_id: str,
        aws: Aws,
        past: CarefulReadings,
        careful: PoisonReader,
        *,
        background: background.Background,
        asked: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._worker_id = worker_id
        self._aws = aws
        self._past = past
        self._careful = careful
        self._background = background
        self._asked = asked

    async def leave(self, bridges: BridgeServer, daemon: Daemon, set_aside: Collection[str]) -> None:
        """Drain every shard, end the JVM, free the leases, and read the shards that were ``set_aside``.

        :raises Fatal: a shard was not drained in time. Records that were not checkpointed will be read again.
        """
        sessions = [session for session in bridges.sessions if session.shard_id]
        late = await self._drain(sessions, daemon)
        await self._free_and_read(set_aside)
        if late:
            raise Fatal(
                f"{', '.join(late)} did not drain within kcl.shutdown_grace_s "
                f"({self._settings.kcl.shutdown_grace_s:g} s). Records that were not checkpointed will be read again"
            )
        log.info("drained every shard and released the leases")

    async def give_up(self, bridges: BridgeServer, daemon: Daemon, error: Exception) -> None:
        """End with ``error``: free the leases and the leader's lock, so that others need not wait until they expire.

        If only KCL has ended, shards in doubt because of that are read at once.
        """
        begun = [session.shard_id for session in bridges.sessions if session.shard_id and not session.over]
        daemon.kill()
        await daemon.wait()
        await bridges.close()
        try:
            await self._past.note_end(error, self._worker_id, begun)
            await self._free_and_read(None if may_be_caused_by_a_record(error) else ())
        except Exception as another:  # noqa: BLE001  # the error that ended the task is reported, not this one
            log.warning("the task did not end in order: %s", another)

    def free(self) -> None:
        """Free the leases; blocks. Only after the JVM is dead: then no other process of this task uses them.

        :raises Fatal: DynamoDB refuses or does not answer. No record has caused that.
        """
        application, kcl = self._settings.stream.application, self._settings.kcl
        try:
            leases.release(self._aws.client("dynamodb"), application, self._worker_id, kcl.max_leases)
        except (BotoCoreError, ClientError) as error:
            expiry_s = kcl.failover_ms / 1000
            raise Fatal(f"the leases were not released; they expire in {expiry_s:g} s: {one_line(error)}") from error

    async def _drain(self, sessions: Sequence[ShardSession], daemon: Daemon) -> list[str]:
        """Wait until every session is over or the budget is used up; then end the JVM. Returns the shards that are
        late.

        KCL's leader may assign a drained shard again within seconds; its session admits nothing and is not awaited.
        """
        budget_s = self._settings.drain.budget_s
        log.info("leaving: draining %s within %g s", counted(len(sessions), "shard"), budget_s)
        daemon.terminate()
        try:
            drained = partial(_all_over, sessions)
            await background.first_of(drained, daemon.wait, self._background.failing, timeout_s=budget_s)
            return [session.shard_id for session in sessions if not session.over]
        finally:
            drained_s = time.monotonic()
            daemon.kill()
            await daemon.wait()
            log.info("the JVM ended %.2f s after the drain", time.monotonic() - drained_s)

    async def _free_and_read(self, shard_ids: Collection[str] | None) -> None:
        """Free the leases, and read these shards carefully if they are in doubt; None: any shard. Only without a
        JVM."""
        able = not self._asked.is_set() and not self._background.failure.done()
        held = await self._past.take(self._careful, self._worker_id, shard_ids) if able else []
        await asyncio.to_thread(self.free)
        if held:
            reading = partial(self._past.read, self._careful, held, self._background.failing)
            await unless(self._asked, reading)


async def unless(told: asyncio.Event, work: background.Work) -> None:
    """Await ``work``, or cancel it when ``told``; then raises :class:`Asked`."""
    if await background.first_of(work, told.wait) == 1:
        raise Asked


async def _all_over(sessions: Sequence[ShardSession]) -> None:
    await asyncio.gather(*(session.finished.wait() for session in sessions))
