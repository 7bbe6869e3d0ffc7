"""A task that reads a slice of the stream and ends by itself: for ``penstock replay``.

It is an application of its own, with leases of its own. Any number of tasks may share the work.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from consumer.app import AGAIN, Task
from consumer.aws.shards import known
from consumer.kcl.bounded import RateLimit, ShardSlice, Slice, share_read
from consumer.leases import bounded
from consumer.poison.reader import Page, Pages
from consumer.signals import Signals

if TYPE_CHECKING:
    from consumer.aws.clients import Aws
    from consumer.config.settings import Settings, StreamSettings
    from consumer.kcl.bridge_server import BridgeServer
    from pipeline.metrics import Metrics
    from pipeline.record import Position

log = logging.getLogger("replay")

LOOK_S = 1.0
"""Seconds between two reads of the leases."""


@dataclass(frozen=True, slots=True)
class SliceOutcome:
    """``finished``: every shard has passed the end of the slice. Else the task was asked to leave before."""

    finished: bool
    rows: int
    dead_letters: int


@dataclass(frozen=True, slots=True)
class SliceProgress:
    """``passed`` of ``shards`` have passed the end; ``settled``: records of this task; ``share``: of the slice, from 0
    to 1, by the shards that have passed it and those that this task reads; None if unknown.
    """

    passed: int
    shards: int
    settled: int
    share: float | None


Tell = Callable[[SliceProgress], object]


def run(settings: Settings, bounds: Slice, tell: Tell = lambda progress: None) -> SliceOutcome:
    """Consume the slice until every shard has passed its end, or until SIGTERM or SIGINT; raises ``PenstockError``.

    ``settings`` name an application that no other reads the stream by. ``tell`` hears every second how far it is.
    """
    rows = dead = 0
    with Signals() as signals:
        while True:
            extent = StreamSlice(bounds, tell)
            task = Task(settings, signals, extent)
            code = asyncio.run(task.run())
            totals = task.metrics.snapshot()
            rows, dead = rows + int(totals["enriched"]), dead + int(totals["dead_letters"])
            if code != AGAIN:
                return SliceOutcome(extent.finished, rows, dead)


class StreamSlice:
    """What a task of a replay reads. ``finished``: every shard has passed the end of the slice."""

    def __init__(self, bounds: Slice, tell: Tell) -> None:
        self.finished = False
        self.rate = RateLimit(bounds.rate)
        self._bounds = bounds
        self._tell = tell

    def of(self, shard_id: str) -> ShardSlice:
        """The part of a shard that is read."""
        return ShardSlice(self._bounds, shard_id)

    def pages(self, pages: Pages) -> Pages:
        """What a careful reader sees of a shard: the slice, and nothing after it."""
        return SlicePages(pages, self._bounds)

    async def read(self, settings: Settings, aws: Aws, bridges: BridgeServer, metrics: Metrics) -> None:
        """Return once every shard has passed the end."""
        marked: set[str] = set()
        while True:
            passed = {session.shard_id for session in bridges.sessions if session.passed}
            try:
                left, leaves, shards = await asyncio.to_thread(self._look, settings.stream, aws, passed - marked)
            except (BotoCoreError, ClientError) as error:
                log.warning("the leases cannot be read: %s; trying again", error)
            else:
                marked |= passed
                settled = int(metrics.snapshot()["settled"])
                self._tell(SliceProgress(shards - len(left), shards, settled, self._share(left, leaves, bridges)))
                if not left:
                    break
            await asyncio.sleep(LOOK_S)
        log.info("every shard has passed the end of the slice")
        self.finished = True

    def _share(self, left: Collection[str], leaves: Collection[str], bridges: BridgeServer) -> float | None:
        reading = [session for session in bridges.sessions if session.shard_id in left and not session.over]
        return share_read(self._bounds, len(set(leaves) - set(left)), [session.reached_ms for session in reading])

    def _look(self, stream: StreamSettings, aws: Aws, passed: set[str]) -> tuple[list[str], list[str], int]:
        """The shards that have not passed the end, those whose children are not read, and how many there are.

        No leases at all: another task has passed all of them, and has deleted the tables.
        """
        dynamodb, application, to_ms = aws.client("dynamodb"), stream.application, self._bounds.to_ms
        for shard_id in sorted(passed):
            bounded.mark(dynamodb, application, shard_id, to_ms)
            log.info("%s has passed the end of the slice", shard_id)
        leases = bounded.items(dynamodb, application)
        there = known(aws.client("kinesis"), stream.name)
        parents = {parent for shard_id in leases if shard_id in there for parent in there[shard_id].parents}
        left = bounded.left(there, leases, to_ms) if leases else []
        return left, sorted(leases.keys() - parents), len(leases)


class SlicePages:
    """Of other pages, the records that belong to the slice."""

    def __init__(self, pages: Pages, bounds: Slice, *, sleep: Callable[[float], object] = time.sleep) -> None:
        self._pages = pages
        self._bounds = bounds
        self._sleep = sleep

    def after(self, shard_id: str, position: Position | None) -> Page:
        """See :class:`consumer.poison.reader.Pages`; the last page is the one that goes beyond the end."""
        while True:
            page = self._pages.after(shard_id, position)
            sliced = ShardSlice(self._bounds, shard_id)
            records = sliced.take(page.records, None, 0)
            last = page.last or sliced.beyond
            if records or last or not page.records:
                return Page(records, last)
            position = page.records[-1].position
            self._sleep(LOOK_S)
