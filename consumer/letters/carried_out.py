"""Makes a redrive from its parts: checks the table as a task's start does, and retries calls to stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from consumer.aws.clients import Aws
from consumer.build import Outside, Parts
from consumer.letters.places import notes_url, table_url
from consumer.letters.redrive import Redrive, Result
from pipeline.metrics import Metrics
from pipeline.outages import Outages
from pipeline.sinks.parquet import ParquetSink
from pipeline.stores.calls import SureCalls, Threads

if TYPE_CHECKING:
    from consumer.config.settings import Settings
    from consumer.feed import Feed
    from consumer.letters.plan import Plan

GIVE_UP_AFTER_S = 120.0
"""Retries of calls: a person waits, and the next command continues where this one stops."""


async def carried_out(
    settings: Settings, plan: Plan, feed: Feed, *, rate: float, canary: int, tell: Callable[[int], None]
) -> Result:
    """Carry out a redrive (:meth:`consumer.letters.redrive.Redrive.run`) after checking that the table accepts the
    model's rows.

    :raises UserError: the table has other columns, or the table or the place of the notes cannot be written to.
    """
    outside = Outside.of(Aws())
    await _check(settings, feed, outside)
    url = settings.dead_letter.url
    threads = Threads("redrive", count=1)
    surely = SureCalls(threads, Outages().part("redrive", GIVE_UP_AFTER_S))
    notes = outside.store(notes_url(url))
    redrive = Redrive(outside.store(url), outside.store(table_url(settings) or ""), notes, surely)
    try:
        await surely.check(notes.check)
        return await redrive.run(plan, feed, rate=rate, canary=canary, tell=tell)
    finally:
        threads.close()


async def _check(settings: Settings, feed: Feed, outside: Outside) -> None:
    for sink in Parts(settings, outside, Metrics()).sinks(feed.spec.row_schema):
        if isinstance(sink, ParquetSink):
            await sink.check()
            return
