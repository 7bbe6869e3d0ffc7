"""Makes a redrive from its parts: checks the table as a task's start does, and retries calls to stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from consumer.aws.clients import Aws
from consumer.build import Outside, Parts
from consumer.feed import Feed
from consumer.letters.crashes import RedriveMarks, crashes_url
from consumer.letters.places import notes_url, table_url
from consumer.letters.redrive import Redrive, Result
from pipeline.metrics import Metrics
from pipeline.outages import Outages
from pipeline.sinks.parquet import ParquetSink
from pipeline.stores.calls import SureCalls, Threads

if TYPE_CHECKING:
    from consumer.config.settings import Settings
    from consumer.letters.plan import RedrivePlan

GIVE_UP_AFTER_S = 120.0
"""Retries of calls: a person waits, and the next command continues where this one stops."""


async def carry_out(
    settings: Settings,
    plan: RedrivePlan,
    *,
    rate: float,
    canary: int,
    again: bool,
    tell: Callable[[int], None],
    say: Callable[[str], None],
) -> Result:
    """Carry out a redrive (:meth:`consumer.letters.redrive.Redrive.run`) after checking that the table accepts the
    model's rows.

    ``again``: what earlier commands noted before they died is not asked. ``say`` hears of what an operator should know.

    :raises UserError: the model cannot be used; the table has other columns; the table, or the place of the notes,
        cannot be written to.
    """
    outside = Outside.of(Aws())
    threads = Threads("redrive", count=1)
    surely = SureCalls(threads, Outages().part("redrive", GIVE_UP_AFTER_S))
    notes_at = notes_url(settings.dead_letter.url)
    notes = outside.store(notes_at)
    crashes = outside.store(crashes_url(notes_at, settings.model.version))
    marks = RedriveMarks(crashes, surely)
    try:
        await surely.check(notes.check)
        if not again and (left := await marks.left()):
            say(_DIED.format(", ".join(sorted(set(left))[:3])))
        say(f"loading the model {settings.model.factory}")
        doubted = {} if again else {"crashes": crashes, "switches": marks.switches}
        async with Feed(settings, **doubted) as feed:  # type: ignore[arg-type]
            await _check(settings, feed, outside)
            letters, table = outside.store(settings.dead_letter.url), outside.store(table_url(settings) or "")
            redrive = Redrive(letters, table, notes, surely, marks=marks)
            return await redrive.run(plan, feed, rate=rate, canary=canary, tell=tell)
    finally:
        threads.close()


_DIED = (
    "a redrive with this model version ended in the middle of {}, or another one runs there now. A record may have "
    "killed it: each try is noted, until it is known which record does, or that none does"
)


async def _check(settings: Settings, feed: Feed, outside: Outside) -> None:
    for sink in Parts(settings, outside, Metrics()).sinks(feed.spec.row_schema):
        if isinstance(sink, ParquetSink):
            await sink.check()
            return
