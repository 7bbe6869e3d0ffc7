"""The common part of sinks that write chains of files: one chain for each shard session, one pool of threads."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypedDict, Unpack

from pipeline.outages import Outages
from pipeline.record import Shard
from pipeline.sinks import NOBODY, OnDurable, SinkEvents
from pipeline.sinks.chain import Chain
from pipeline.sinks.chain_writer import ChainWriter, Committer
from pipeline.stores.base import ObjectStore
from pipeline.stores.calls import Threads, at_start
from pipeline.table.names import Names


class Around(TypedDict, total=False):
    """A sink's environment; every part is optional. By default no events are reported, the sink never gives up, and
    the clocks are the machine's.
    """

    events: SinkEvents
    outages: Outages
    give_up_after_s: float
    clock: Callable[[], float]
    now: Callable[[], datetime]
    sleep: Callable[[float], Awaitable[object]]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class ChainSink:
    """A sink with one store. A subclass defines by :meth:`_committer` what its files contain."""

    wants_payloads = False

    def __init__(
        self, *, name: str, store: ObjectStore, flush_interval_s: float, flush_bytes: int, **around: Unpack[Around]
    ) -> None:
        """A file is written ``flush_interval_s`` after its first record, or once its records use ``flush_bytes``."""
        self.name = name
        self._store = store
        self._flush_interval_s = flush_interval_s
        self._flush_bytes = flush_bytes
        self._events = around.get("events", NOBODY)
        self._clock = around.get("clock", time.monotonic)
        self._now = around.get("now", _utc_now)
        self._sleep = around.get("sleep", asyncio.sleep)
        self._outages = around.get("outages") or Outages(self._clock)
        self._give_up_after_s = around.get("give_up_after_s", float("inf"))
        self._threads = Threads(f"sink-{name.partition(':')[0]}")
        self._writers: weakref.WeakSet[ChainWriter] = weakref.WeakSet()

    async def check(self) -> None:
        """Run :meth:`_check`, and retry it for some seconds. See :meth:`pipeline.sinks.Sink.check`.

        :raises UserError: it does not pass.
        """
        await at_start(self._check, self._threads, self._sleep)

    def open(self, shard: Shard, on_durable: OnDurable, on_fatal: Callable[[BaseException], None]) -> ChainWriter:
        """Open a writer for a shard session. See :meth:`pipeline.sinks.Sink.open`."""
        names = Names(shard)
        writer = ChainWriter(
            Chain(names, flush_interval_s=self._flush_interval_s, flush_bytes=self._flush_bytes),
            self._committer(names),
            on_durable,
            on_fatal,
            call=self._threads,
            part=self._outages.part(self.name, self._give_up_after_s),
            on_retry=self._events.on_retry,
            clock=self._clock,
            sleep=self._sleep,
        )
        self._writers.add(writer)
        return writer

    async def close(self) -> None:
        """Stop all writers. A call in progress ends by itself; its result is ignored."""
        for writer in list(self._writers):
            writer.abandon()
        self._threads.close()

    def _check(self) -> None:
        """Called in a thread. Raises ``UserError``, or what stores raise."""
        self._store.check()

    def _committer(self, names: Names) -> Committer:
        raise NotImplementedError
