"""Carries out a chain's plan: writes one file at a time for each shard, and retries with the same bytes."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from pipeline import background
from pipeline.errors import counted
from pipeline.outages import Component, Outages
from pipeline.record import Position, Record, Run
from pipeline.sinks import OnDurable
from pipeline.sinks.chain import Chain, File
from pipeline.stores.calls import Call, SureCalls

log = logging.getLogger("sink.chain")


class Committer(Protocol):
    """Writes files. Calls block, are made in threads, and raise what stores raise."""

    def prepare(self, file: File, writer: str) -> Callable[[], Position]:
        """Encode the file. Return a function that writes it under its key and returns where the list then reaches.

        The function may be called again. The result is the file's end; or beyond it, if another writer was first; or
        before it, if a file of the list begins within its range.
        """
        ...

    def held(self, first: Record, checkpoint: Position | None) -> Position | None:
        """Return how far the list reaches from a session's first record on; None if the list does not have that
        record.
        """
        ...


class ChainWriter:
    """A :class:`pipeline.sinks.ShardWriter` made of a chain and a committer.

    ``call`` makes a blocking call in a thread. ``part`` is shown as failing while the store does not answer.
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
        """Ask the committer how far the list reaches, and continue from there."""
        held = await self._surely(lambda: self._committer.held(first, checkpoint))
        self._chain.end = held or checkpoint
        return held

    def write(self, run: Run) -> None:
        """Add a run to the chain and wake the task that writes. See :meth:`pipeline.sinks.ShardWriter.write`."""
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
        """Approximate bytes in the chain's buffer."""
        return self._chain.bytes

    async def flush(self) -> None:
        """Return once every record taken so far is in a file. See :meth:`pipeline.sinks.ShardWriter.flush`."""
        target = self._chain.seal()
        self._wake.set()
        while target is not None and not self._abandoned and not self._reaches(target):
            self._progress.clear()
            await self._progress.wait()

    def abandon(self) -> None:
        """Stop. A call in progress may still succeed; its file is then valid, and the shard's next owner adopts it."""
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
        """Return when there may be a file to write."""
        self._wake.clear()
        due_at = self._chain.due_at()
        waits: list[background.Work] = [self._wake.wait]
        if due_at is not None:
            waits.append(partial(self._sleep, max(0.0, due_at - self._clock())))
        await background.first_of(*waits)

    async def _commit(self, file: File) -> None:
        """Write one file: one writer id, the same key and the same bytes in every try."""
        put = await self._surely(partial(self._committer.prepare, file, uuid.uuid4().hex))
        end = await self._surely(put)
        if self._abandoned:
            return
        before = len(self._chain)
        self._chain.written(end)
        log.info("%s: %s, the list reaches %s", file.key, counted(before - len(self._chain), "record"), end)
        self._on_durable(end)
        self._progress.set()
