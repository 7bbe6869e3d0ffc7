"""Carries out a chain's decisions: one file at a time per shard, the same bytes again until the store has answered."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from pipeline import background
from pipeline.outages import Component, Outages
from pipeline.record import Position, Record, Run
from pipeline.sinks import OnDurable
from pipeline.sinks.chain import Chain, File
from pipeline.stores.calls import Call, SureCalls

log = logging.getLogger("sink.chain")


class Committer(Protocol):
    """What a driver does with a file. Calls block and are made in threads; they raise what stores raise."""

    def prepare(self, file: File, writer: str) -> Callable[[], Position]:
        """Encode the file; what is returned writes it under its key, may be repeated, and tells where the list
        reaches then: to the file's end, beyond it where another writer was first, or short of it where a file of
        the list lies ahead."""
        ...

    def held(self, first: Record, checkpoint: Position | None) -> Position | None:
        """How far the list reaches from a session's first record on; None if it does not hold that record."""
        ...


class ChainWriter:
    """A :class:`pipeline.sinks.ShardWriter` over a chain and a committer.

    ``call`` makes a blocking call elsewhere; ``part`` is who is in trouble while the store does not answer.
    """

    def __init__(
        self,
        chain: Chain,
        committer: Committer,
        on_durable: OnDurable,
        on_fatal: Callable[[BaseException], None],
        *,
        call: Call,
        part: Component | None = None,
        on_retry: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._chain = chain
        self._committer = committer
        self._on_durable = on_durable
        self._on_fatal = on_fatal
        self._surely = SureCalls(call, part or Outages(clock).part("sink"), on_retry=on_retry, sleep=sleep)
        self._clock = clock
        self._sleep = sleep
        self._abandoned = False
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
            self._task = background.start(
                self._drive, name="the writer of files", on_failure=self._on_fatal, endless=True
            )
        self._wake.set()

    @property
    def backlog_bytes(self) -> int:
        return self._chain.bytes

    async def flush(self) -> None:
        """All but an aggregate whose rest is still to come: a file may not end within it."""
        target = self._chain.seal()
        self._wake.set()
        while target is not None and not self._abandoned and not self._reaches(target):
            self._progress.clear()
            await self._progress.wait()

    def abandon(self) -> None:
        """A call under way may still arrive; then its file is good, and the next owner adopts it."""
        self._abandoned = True
        if self._task is not None:
            self._task.cancel()
        self._surely.give_up()
        self._chain.clear()
        self._progress.set()

    def _reaches(self, target: Position) -> bool:
        return self._chain.end is not None and self._chain.end >= target

    async def _drive(self) -> None:
        while True:
            if file := self._chain.next(self._clock()):
                await self._commit(file)
            else:
                await self._due()

    async def _due(self) -> None:
        """Return when there may be something to write."""
        self._wake.clear()
        due_at = self._chain.due_at()
        waits: list[background.Work] = [self._wake.wait]
        if due_at is not None:
            waits.append(partial(self._sleep, max(0.0, due_at - self._clock())))
        await background.first_of(*waits)

    async def _commit(self, file: File) -> None:
        """One intent to write: one writer id, the same key and bytes however often it is tried."""
        put = await self._surely(partial(self._committer.prepare, file, uuid.uuid4().hex))
        end = await self._surely(put)
        if self._abandoned:
            return
        before = len(self._chain)
        self._chain.written(end)
        log.info("%s: %d records, the list reaches %s", file.key, before - len(self._chain), end)
        self._on_durable(end)
        self._progress.set()
