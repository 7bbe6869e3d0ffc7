"""Reads a shard in doubt without KCL, piece by piece, with nothing else in the task, and past records that kill tasks.

Records are read with GetRecords and take the usual way through stage and sinks, so exactly-once holds as usual. Each
piece is noted on the lease before it is tried, and the checkpoint follows what is durable. This reader may write both,
because it owns the lease. A record that only kills KCL's side (the JVM, the bridge, the protocol) never reaches them
here, and gets its row. A record that also kills this task, alone and often enough, becomes a dead letter of the kind
``killed``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from consumer.poison.doubt import Doubt, alone_at_most, piece_after
from consumer.poison.held_leases import Held, HeldLeases, Hindered, Lost, ReaderNotes
from consumer.poison.notes import Noted
from consumer.poison.session_notes import in_short, may_be_caused_by_a_record
from pipeline import background, kpl
from pipeline.aggregate import Aggregate, aggregate_or_record
from pipeline.errors import Broken, counted
from pipeline.events import DeadLettered, ModelEvent
from pipeline.flow.lane import Lane
from pipeline.flow.waiting import Waiting, after
from pipeline.record import Dead, Position, Record, Shard
from pipeline.stage import Stage

log = logging.getLogger("careful")

KIND, SKIPPED = "killed", "skipped"
"""The kinds of the dead letters that are made here: tasks died of the record, or an operator skips it."""

AT_A_TIME_BYTES = 16 * 1024 * 1024
"""Maximum size of the user records that are taken out of an aggregate before the first of them is tried."""

PAUSE_S = 0.25
"""Seconds between two reads of a shard; Kinesis allows five a second for all readers together."""


@dataclass(frozen=True, slots=True)
class Page:
    """Records in sequence order; aggregates are not taken apart. ``last``: the shard has no more records now."""

    records: Sequence[Record]
    last: bool


class Pages(Protocol):
    """Reads a shard page by page. All calls block."""

    def after(self, shard_id: str, position: Position | None) -> Page:
        """Return the records after the Kinesis record at ``position``; None: from the application's start position."""
        ...


class PoisonReader:
    """Reads shards in doubt one after the other. ``reads_ahead``: the maximum number of records that KCL reads ahead.

    ``stage`` must be running and have no other lane.
    """

    def __init__(
        self,
        stage: Stage,
        notes: ReaderNotes,
        pages: Pages,
        shard: Callable[[str], Shard],
        worker_id: str,
        *,
        give_up_after: int,
        reads_ahead: int,
        on_event: Callable[[ModelEvent], None],
        call: Callable[[Callable[[], Any]], Awaitable[Any]] = asyncio.to_thread,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._stage = stage
        self._leases = HeldLeases(notes, worker_id, call, sleep)
        self._pages = pages
        self._shard = shard
        self._holder = self._leases.holder
        self._give_up_after = give_up_after
        self._reads_ahead = reads_ahead
        self._on_event = on_event
        self._clock = clock

    async def hold(self, noted: Noted) -> Held | None:
        """See :meth:`HeldLeases.hold`."""
        return await self._leases.hold(noted)

    async def free(self, held: Held) -> None:
        """See :meth:`HeldLeases.free`."""
        await self._leases.free(held)

    async def read(self, held: Held, failing: background.Work) -> None:
        """Read until the shard is past the records of which tasks died, or the lease is lost; then the lease is free or
        not ours.

        ``failing`` raises an error that makes it useless to continue. An error that a record may have caused is noted
        as a death; then, and when this is cancelled, the lease is released.

        :raises Hindered: the reading failed, and no record is to blame; the task may go on.
        """
        try:
            if await background.first_of(partial(self._read, held), held.lost.wait, failing) == 1:
                raise Lost
            held.doubt = replace(held.doubt.in_order(), skips=()).ended(self._holder)
            log.info("%s is in order again; KCL reads it from here", held.shard_id)
        except Lost:
            log.warning("%s: another worker took its lease during a careful reading", held.shard_id)
        except Hindered:
            held.doubt = held.doubt.hinders()
            raise
        except BaseException as error:
            died = may_be_caused_by_a_record(error)
            held.doubt = held.doubt.died(self._holder, in_short(error)) if died else held.doubt.ended(self._holder)
            raise
        finally:
            await self.free(held)

    async def _read(self, held: Held) -> None:
        behind = (held.doubt.passed, held.checkpoint and held.checkpoint.end_of_record)
        held.at = max((position for position in behind if position is not None), default=None)
        held.doubt = held.doubt.forgets(held.at)
        lane = self._stage.open(self._shard(held.shard_id), held.at)
        try:
            while not self._past(held):
                page: Page = await self._leases.ask(partial(self._pages.after, held.shard_id, held.checkpoint))
                await self._page(held, lane, page)
                if page.last and not self._past(held):
                    return
                await asyncio.sleep(PAUSE_S)
        finally:
            self._stage.abandon(lane)

    async def _page(self, held: Held, lane: Lane, page: Page) -> None:
        """Try the records of a page; then note that no record is being tried."""
        left = list(page.records)
        while left and not self._past(held):
            count = held.doubt.together_whole([record.position for record in left])
            await self._records(held, lane, left[:count])
            left = left[count:]
        if page.records:
            await self._leases.step(held, held.doubt)

    def _past(self, held: Held) -> bool:
        return held.doubt.past(held.beyond, self._reads_ahead)

    async def _records(self, held: Held, lane: Lane, records: Sequence[Record]) -> None:
        """Take these Kinesis records apart, and try their user records."""
        waiting, left = Waiting(), list[Record]()
        waiting.beyond = held.at
        opens = [record for record in records if record.data.startswith(kpl.MAGIC)]
        if opens and self._is_given_up_whole(held, opens[-1]):
            self._give_up_whole(held, opens.pop())
        if opens:
            waiting.within = await self._stage.misplaced.within(held.shard_id)
            await self._leases.step(held, held.doubt.tries(*_opening(opens)))
        waiting.put([aggregate_or_record(record) if record.outcome is None else record for record in records])
        while (left or waiting) and not self._past(held):
            left = left or waiting.take(held.piece, AT_A_TIME_BYTES)
            self._stage.misplaced.note(lane.shard, waiting.misplaced)
            left = self._passed_over(held, left)
            if left:
                left = await self._try(held, lane, left)
            if waiting and not left and isinstance(waiting.first, Aggregate):
                await self._leases.step(held, held.doubt.tries(*_opening([waiting.first, opens[-1]])))

    def _passed_over(self, held: Held, left: list[Record]) -> list[Record]:
        """Return the records that are not durable. The others cannot have killed a task: they were durable before."""
        fresh = list(after(held.at, left))
        self._count(held, left[: len(left) - len(fresh)])
        return fresh

    async def _try(self, held: Held, lane: Lane, left: list[Record]) -> list[Record]:
        """Try the first of these records until they are durable; returns the others."""
        whole_is_given_up = _is_given_up(left[0])
        count = 1 if whole_is_given_up else held.doubt.together([record.position for record in left], held.piece)
        tried, left = left[:count], left[count:]
        first, last = tried[0].position, tried[-1].position
        if not self._skip(tried[0], held.doubt) and held.doubt.gives_up(first, self._give_up_after):
            self._make_dead(tried[0], held.doubt)
        named = _opening(tried) if whole_is_given_up else (first, last)
        await self._leases.step(held, held.doubt.tries(*named))
        began_s = self._clock()
        self._stage.admit(lane, tried)
        await self._stage.end(lane)
        if lane.durable is None or lane.durable < last:
            raise Broken(
                f"{held.shard_id}: drained to {lane.durable or 'no record'}, but records up to {last} were admitted"
            )
        self._stage.noted(lane)
        held.at = max(last.end_of_record if tried[-1].whole else last, lane.durable)
        held.doubt = held.doubt.passes(held.at)
        self._count(held, tried)
        if count == held.piece:
            held.piece = piece_after(held.piece, self._clock() - began_s)
        return left

    def _count(self, held: Held, passed: Sequence[Record]) -> None:
        """Count records as durable. The next step writes it, together with the checkpoint."""
        whole = [record.position for record in passed if record.whole]
        read = held.doubt.read
        held.beyond += sum(read is None or position > read for position in whole)
        held.checkpoint = whole[-1] if whole else held.checkpoint

    def _is_given_up_whole(self, held: Held, record: Record) -> bool:
        end = record.position.end_of_record
        return held.doubt.skipped(end) is not None or held.doubt.gives_up(end, self._give_up_after)

    def _give_up_whole(self, held: Held, record: Record) -> None:
        """Give up the rest of an aggregate: an operator skips it, or it kills before it is taken apart."""
        if held.at is not None and held.at.sequence == record.position.sequence:
            record.sub = held.at.sub + 1
        if not self._skip(record, held.doubt):
            self._make_dead(record, held.doubt)

    def _skip(self, record: Record, doubt: Doubt) -> bool:
        """Whether an operator skips the record. Then it becomes a dead letter without being tried."""
        skip = doubt.skipped(record.position)
        if skip is not None and record.outcome is None:
            record.settle(Dead(record.data, f"an operator passed over it: {skip.why}", "", 0, SKIPPED))
            log.warning("%s: passing over record %s: %s", record.shard_id, record.position, skip.why)
            self._on_event(DeadLettered(SKIPPED))
        return skip is not None

    def _make_dead(self, record: Record, doubt: Doubt) -> None:
        """Make a dead letter without trying the record. If a task died over the dead letter, leave out the payload."""
        deaths = len(doubt.alone)
        reason = f"{counted(deaths, 'task')} died while they tried this record alone: {doubt.why()}"
        payload = record.data
        if deaths > alone_at_most(self._give_up_after):
            payload, reason = b"", f"{reason}; the payload is left out, because a task also died over the dead letter"
        record.settle(Dead(payload, reason, "", deaths, KIND))
        log.error("%s: skipping record %s: %s", record.shard_id, record.position, reason)
        self._on_event(DeadLettered(KIND))


def _opening(records: Sequence[Record]) -> tuple[Position, Position]:
    """The positions of aggregates in a note: behind the last user record of the first and of the last aggregate."""
    return records[0].position.end_of_record, records[-1].position.end_of_record


def _is_given_up(record: Record) -> bool:
    return isinstance(record.outcome, Dead) and record.outcome.kind in {KIND, SKIPPED}
