"""Carries out a chain's decisions: one file at a time per shard, the same bytes again until the store has answered."""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from pipeline.errors import PenstockError
from pipeline.record import Position, Record, Run
from pipeline.sinks import OnDurable
from pipeline.sinks.chain import Chain, File
from pipeline.sinks.store import Denied, Retryable

log = logging.getLogger("sink.chain")

T = TypeVar("T")

FIRST_DELAY_S, LAST_DELAY_S = 0.2, 10.0
DENIED_DEADLINE_S = 60.0
"""How long a refusal may last that somebody must mend: credentials and policies change under a running task."""


class Committer(Protocol):
    """What a driver does with a file. Calls block and are made in threads; they raise what stores raise."""

    def prepare(self, file: File, writer: str) -> Callable[[], Position]:
        """Encode the file; what is returned writes it under its key, may be repeated, and tells where the list
        reaches then: the file's end, or that of another writer who was first."""
        ...

    def held(self, first: Record, checkpoint: Position | None) -> Position | None:
        """How far the list reaches from a session's first record on; None if it does not hold that record."""
        ...


class Driver:
    """A :class:`pipeline.sinks.ShardWriter` over a chain and a committer."""

    def __init__(
        self,
        chain: Chain,
        committer: Committer,
        on_durable: OnDurable,
        on_fatal: Callable[[BaseException], None],
        *,
        on_retry: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._chain = chain
        self._committer = committer
        self._on_durable = on_durable
        self._on_fatal = on_fatal
        self._on_retry = on_retry
        self._clock = clock
        self._sleep = sleep
        self._abandoned = False
        self._flushing = 0
        self._wake = asyncio.Event()
        self._progress = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def resume(self, first: Record, checkpoint: Position | None) -> Position | None:
        held = await self._surely(lambda: self._committer.held(first, checkpoint))
        self._chain.end = held or checkpoint
        return held

    def write(self, run: Run) -> None:
        if self._abandoned:
            return
        self._chain.add(run.records, self._clock())
        if self._task is None:
            self._task = asyncio.create_task(self._drive())
        self._wake.set()

    @property
    def backlog_bytes(self) -> int:
        return self._chain.bytes

    async def flush(self) -> None:
        self._flushing += 1
        self._wake.set()
        try:
            while len(self._chain) and not self._abandoned:
                self._progress.clear()
                await self._progress.wait()
        finally:
            self._flushing -= 1

    def abandon(self) -> None:
        self._abandoned = True
        if self._task is not None:
            self._task.cancel()
        self._progress.set()

    async def _drive(self) -> None:
        try:
            while True:
                if file := self._chain.next(self._clock(), flush=self._flushing > 0):
                    await self._commit(file)
                else:
                    await self._due()
        except PenstockError as error:
            self._on_fatal(error)

    async def _due(self) -> None:
        """Return when there may be something to write."""
        self._wake.clear()
        due_at = self._chain.due_at()
        timeout_s = None if due_at is None else max(0.01, due_at - self._clock())
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _commit(self, file: File) -> None:
        """One intent to write: one writer id, the same key and bytes however often it is tried."""
        put = await asyncio.to_thread(self._committer.prepare, file, uuid.uuid4().hex)
        end = await self._surely(put)
        if self._abandoned:
            return
        self._chain.written(end)
        log.info("%s: %d records, the list reaches %s", file.key, len(file.records), end)
        self._on_durable(end)
        self._progress.set()

    async def _surely(self, call: Callable[[], T]) -> T:
        """Again while the store may come round; a refusal that lasts ends the task."""
        delay_s, denied_since = FIRST_DELAY_S, None
        while True:
            try:
                return await asyncio.to_thread(call)
            except Retryable as error:
                log.warning("%s; again in about %.1f s", error, delay_s)
            except Denied as error:
                denied_since = denied_since if denied_since is not None else self._clock()
                if self._clock() - denied_since > DENIED_DEADLINE_S:
                    raise
                log.error("%s; again in about %.1f s", error, delay_s)
            self._on_retry()
            await self._sleep(delay_s * random.uniform(0.5, 1.0))
            delay_s = min(2 * delay_s, LAST_DELAY_S)
