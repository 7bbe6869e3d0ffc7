"""A task that reads a slice of the stream and ends by itself: for ``penstock replay``.

It is an application of its own, with leases of its own. Any number of tasks may share the work.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from consumer.app import AGAIN, Task
from consumer.aws.shards import known
from consumer.kcl.bounded import RateLimit, ShardSlice, Slice
from consumer.leases import bounded
from consumer.poison.reader import Page, Pages
from consumer.signals import Signals

if TYPE_CHECKING:
    from consumer.config.settings import Settings, StreamSettings
    from consumer.kcl.bridge_server import BridgeServer
    from pipeline.record import Position

log = logging.getLogger("replay")

LOOK_S = 1.0
"""Seconds between two reads of the leases."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """``finished``: every shard has passed the end of the slice. Else the task was asked to leave before."""

    finished: bool
    rows: int
    dead_letters: int


Tell = Callable[[int, int, int], object]


def run(settings: Settings, bounds: Slice, tell: Tell = lambda passed, shards, settled: None) -> Outcome:
    """Consume the slice until every shard has passed its end, or until SIGTERM or SIGINT; raises ``PenstockError``.

    ``settings`` name an application that no other reads the stream by. ``tell`` hears every second how many shards have
    passed the end, of how many, and how many records this task has settled.
    """
    rows = dead = 0
    with Signals() as signals:
        while True:
            task = SliceTask(settings, bounds, signals, tell)
            code = asyncio.run(task.run())
            totals = task.metrics.snapshot()
            rows, dead = rows + int(totals["enriched"]), dead + int(totals["dead_letters"])
            if code != AGAIN:
                return Outcome(task.finished, rows, dead)


class SliceTask(Task):
    """One worker of a replay. ``finished``: every shard has passed the end of the slice."""

    def __init__(self, settings: Settings, bounds: Slice, signals: Signals, tell: Tell) -> None:
        super().__init__(settings, signals)
        self.finished = False
        self._bounds = bounds
        self._limit = RateLimit(bounds.rate)
        self._tell = tell

    def session_bounds(self, shard_id: str) -> ShardSlice:
        """What is read of a shard."""
        return ShardSlice(self._bounds, shard_id)

    @property
    def rate(self) -> RateLimit:
        """Of all sessions of the task together."""
        return self._limit

    def pages(self, stream: StreamSettings) -> Pages:
        """What a careful reader sees of a shard: the slice, and nothing after it."""
        return SlicePages(super().pages(stream), self._bounds)

    async def over_the_slice(self, bridges: BridgeServer) -> None:
        """Until every shard has passed the end; then the task leaves as if it were asked to."""
        marked: set[str] = set()
        while True:
            passed = {session.shard_id for session in bridges.sessions if session.passed}
            try:
                left, shards = await asyncio.to_thread(self._look, passed - marked)
            except (BotoCoreError, ClientError) as error:
                log.warning("the leases cannot be read: %s; trying again", error)
            else:
                marked |= passed
                self._tell(shards - len(left), shards, int(self.metrics.snapshot()["settled"]))
                if not left:
                    break
            await asyncio.sleep(LOOK_S)
        log.info("every shard has passed the end of the slice")
        self.finished = True
        self.leaving.set()
        await asyncio.Event().wait()

    def _look(self, passed: set[str]) -> tuple[list[str], int]:
        """The shards that have not passed the end, and how many there are. No leases at all: another task has passed
        all of them, and has deleted the tables."""
        dynamodb, application, to_ms = self.aws.client("dynamodb"), self.settings.stream.application, self._bounds.to_ms
        for shard_id in sorted(passed):
            bounded.mark(dynamodb, application, shard_id, to_ms)
            log.info("%s has passed the end of the slice", shard_id)
        leases = bounded.items(dynamodb, application)
        there = known(self.aws.client("kinesis"), self.settings.stream.name)
        return bounded.left(there, leases, to_ms) if leases else [], len(leases)


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
