"""The two ways in which a task reads a shard: in a session of KCL, and carefully without KCL."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from consumer.config.kcl_properties import READS_AHEAD, read_at_once
from consumer.kcl.bridge_server import Decoder
from consumer.kcl.session import ShardSession
from consumer.poison.pages import LeasePages
from consumer.poison.reader import PoisonReader
from pipeline.record import Shard

if TYPE_CHECKING:
    from consumer.aws.clients import Aws
    from consumer.config.settings import Settings, StreamSettings
    from consumer.kcl.bounded import RateLimit, ShardSlice
    from consumer.kcl.bridge_server import BridgeServer
    from consumer.kcl.wire import Wire
    from consumer.poison.notes import LeaseNotes
    from consumer.poison.reader import Pages
    from consumer.poison.session_notes import Doubts
    from pipeline.metrics import Metrics
    from pipeline.stage import Stage


class Extent(Protocol):
    """How much of the stream a task reads. ``rate``: the limit of all its sessions together; None: no limit."""

    @property
    def rate(self) -> RateLimit | None:
        """A limit of records per second."""
        ...

    def of(self, shard_id: str) -> ShardSlice | None:
        """The part of a shard that is read; None: all of it."""
        ...

    def pages(self, pages: Pages) -> Pages:
        """Return those of ``pages`` that belong to it."""
        ...

    async def read(self, settings: Settings, aws: Aws, bridges: BridgeServer, metrics: Metrics) -> None:
        """Return when nothing of it is left to read, in any task. ``bridges`` has the sessions of this task."""
        ...


class WholeStream:
    """All of the stream, without an end."""

    rate = None

    def of(self, shard_id: str) -> None:
        """Return None: the shard is read without bounds."""
        return

    def pages(self, pages: Pages) -> Pages:
        """Return ``pages`` unchanged: every record belongs to it."""
        return pages

    async def read(self, *whatever: object) -> None:
        """Never returns."""
        await asyncio.Event().wait()


class ShardReaders:
    """Makes the readers of one task's shards. Both admit to its one ``stage``."""

    def __init__(
        self, settings: Settings, stream: StreamSettings, created_s: int, stage: Stage, metrics: Metrics, extent: Extent
    ) -> None:
        """``stream``: the stream that the application is bound to. ``created_s``: its creation time in epoch
        seconds."""
        self._settings = settings
        self._stream = stream
        self._created_s = created_s
        self._stage = stage
        self._metrics = metrics
        self._extent = extent
        self._decoder = Decoder()

    def session(self, wire: Wire, leaving: asyncio.Event, doubts: Doubts) -> ShardSession:
        """Make a session of KCL."""
        return ShardSession(
            wire,
            self._stage,
            self._shard,
            leaving,
            self._metrics.records,
            self._decoder,
            doubts=doubts,
            bounds=self._extent.of,
            rate=self._extent.rate,
        )

    def careful(self, aws: Aws, notes: LeaseNotes, worker_id: str) -> PoisonReader:
        """Make the reader of shards in doubt."""
        return PoisonReader(
            self._stage,
            notes,
            self._extent.pages(LeasePages(lambda: aws.client("kinesis"), self._stream)),
            self._shard,
            worker_id,
            give_up_after=self._stream.give_up_after_tasks,
            reads_ahead=READS_AHEAD * read_at_once(self._settings.kcl),
            on_event=self._metrics.model.note,
        )

    def close(self) -> None:
        """Stop the thread that decodes."""
        self._decoder.close()

    def _shard(self, shard_id: str) -> Shard:
        return Shard(self._stream.name, self._created_s, shard_id)
