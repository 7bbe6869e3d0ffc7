"""Reads a shard in doubt without KCL: a piece at a time, with nothing else in the task, and past what kills tasks.

The records are read with GetRecords and go the ordinary way through stage and sinks, so that exactly once rests on what
it always rests on. What is tried is noted on the lease before, and the checkpoint follows what is durable; both are
this reader's to write, since the lease bears its name meanwhile. Whatever dies of a record on KCL's way here (its JVM,
the bridge, the protocol) never meets it: such a record gets its row. One that kills this task as well, by itself and
often enough, becomes a dead letter of the kind ``killed``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from consumer.poison.doubt import PIECE, Doubt, alone_at_most, piece_after
from consumer.poison.doubts import in_short, may_be_a_records_doing, tell_of
from consumer.poison.notes import HOLDER, Noted
from pipeline import background, kpl
from pipeline.aggregate import Aggregate, looked_into
from pipeline.errors import Broken, one_line
from pipeline.events import Condemned, ModelEvent
from pipeline.flow.lane import Lane
from pipeline.flow.waiting import Waiting, after
from pipeline.record import Dead, Position, Record, Shard
from pipeline.retry import Retry, only
from pipeline.stage import Stage

log = logging.getLogger("careful")

KIND = "killed"
"""Of the dead letters that are made here."""

KEEP_S = 2.0
"""Between two renewals of a held lease; ``kcl.failover_ms`` is a second at least, and ten by default."""

AT_A_TIME_BYTES = 16 * 1024 * 1024
"""Of user records that are taken out of an aggregate before the first of them is tried."""

ANSWER = Retry(0.5, 8.0, tries=7, on=only(ClientError, BotoCoreError, OSError))
"""Of a service that does not give one, for 23.5 s: to begin anew takes longer."""

PAUSE_S = 0.25
"""Between two reads of a shard, which takes five a second from everybody together."""

FREE = Retry(1.0, 1.0, tries=4)
"""Of giving a lease up: a note that stays there says that this task has died of what it had in hand."""


class Notes(Protocol):
    """:class:`consumer.poison.notes.LeaseNotes`, as far as a careful reader needs it."""

    def hold(self, noted: Noted, holder: str, doubt: Doubt) -> bool: ...

    def step(self, shard_id: str, holder: str, doubt: Doubt, checkpoint: Position | None = None) -> bool: ...

    def keep(self, shard_id: str, holder: str) -> bool: ...

    def free(self, shard_id: str, holder: str, doubt: Doubt) -> bool: ...


@dataclass(frozen=True, slots=True)
class Page:
    """Records in sequence order, not yet looked into. ``last``: nothing of the shard comes after them now."""

    records: Sequence[Record]
    last: bool


class Pages(Protocol):
    """Reads a shard. Blocks."""

    def after(self, shard_id: str, position: Position | None) -> Page:
        """What comes after the Kinesis record of this number; None: from where the application starts."""
        ...


class Lost(Exception):
    """The lease is somebody else's."""


class Hindered(Exception):
    """A read of the shard, or a write to its lease, failed: that is no record's doing."""


class PoisonReader:
    """Of one task, for one shard after the other. ``reads_ahead``: records that KCL has read ahead, at most.

    ``stage`` must be running, and have no other lane.
    """

    def __init__(
        self,
        stage: Stage,
        notes: Notes,
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
        self._notes = notes
        self._pages = pages
        self._shard = shard
        self._holder = f"{HOLDER}{worker_id}"
        self._give_up_after = give_up_after
        self._reads_ahead = reads_ahead
        self._on_event = on_event
        self._call = call
        self._clock = clock
        self._sleep = sleep

    async def hold(self, noted: Noted) -> Held | None:
        """Take the lease from whoever is dead, or has given it up; None if somebody was quicker.

        :raises Hindered: nobody knows whether it was taken.
        """
        doubt = noted.doubt.begun(self._holder)
        try:
            if not await self._call(partial(self._notes.hold, noted, self._holder, doubt)):
                return None
        except Exception as error:
            raise Hindered(one_line(error)) from error
        tell_of(noted.shard_id, doubt, "it is read carefully, without KCL and with nothing beside it")
        held = Held(noted.shard_id, noted.lease.checkpoint, doubt)

        def lose(error: BaseException) -> None:
            held.lost.set()

        held.keeping = background.start(partial(self._keep, held), name="a held lease", on_failure=lose)
        return held

    async def read(self, held: Held, failing: background.Work) -> None:
        """Until the shard is past what tasks died of, or the lease is lost; then the lease is free, or not ours.

        ``failing`` raises what makes going on pointless. An error that may be a record's doing is noted as a death;
        then, and when this is cancelled, the lease is given up.

        :raises Hindered: it is not past it, and no record is to blame; the task may go on.
        """
        try:
            if await background.first_of(partial(self._read, held), held.lost.wait, failing) == 1:
                raise Lost
            held.doubt = held.doubt.in_order().ended(self._holder)
            log.info("%s is in order again: KCL may have it", held.shard_id)
        except Lost:
            log.warning("%s: its lease was taken away while it was read carefully", held.shard_id)
        except Hindered:
            held.doubt = held.doubt.hinders()
            raise
        except BaseException as error:
            died = may_be_a_records_doing(error)
            held.doubt = held.doubt.died(self._holder, in_short(error)) if died else held.doubt.ended(self._holder)
            raise
        finally:
            await self.free(held)

    async def free(self, held: Held) -> None:
        """Give the lease up; one that cannot be given up runs out."""
        if held.keeping is not None:
            held.keeping.cancel()
            await asyncio.gather(held.keeping, return_exceptions=True)
        doubt = held.doubt.ended(self._holder) if held.doubt.by == self._holder else held.doubt

        def tell(error: Exception, wait_s: float) -> None:
            log.warning("%s: its lease cannot be given up: %s", held.shard_id, one_line(error))

        async def give_up() -> None:
            await asyncio.shield(self._call(partial(self._notes.free, held.shard_id, self._holder, doubt)))

        try:
            await FREE.call(give_up, on_failure=tell)
        except Exception as error:  # noqa: BLE001  # the lease expires by itself
            log.warning("%s: its lease is left to expire: %s", held.shard_id, one_line(error))

    async def _keep(self, held: Held) -> None:
        while not held.lost.is_set():
            await asyncio.sleep(KEEP_S)
            try:
                if not await self._call(partial(self._notes.keep, held.shard_id, self._holder)):
                    held.lost.set()
            except Exception as error:
                log.warning("%s: its lease cannot be renewed: %s", held.shard_id, error, exc_info=True)

    async def _read(self, held: Held) -> None:
        behind = (held.doubt.passed, held.checkpoint and held.checkpoint.end_of_record)
        held.at = max((position for position in behind if position is not None), default=None)
        lane = self._stage.open(self._shard(held.shard_id), held.at)
        try:
            while not self._past(held):
                page: Page = await self._ask(partial(self._pages.after, held.shard_id, held.checkpoint))
                await self._page(held, lane, page)
                if page.last and not self._past(held):
                    return
                await asyncio.sleep(PAUSE_S)
        finally:
            self._stage.abandon(lane)

    async def _page(self, held: Held, lane: Lane, page: Page) -> None:
        """Try what it holds; then nothing is in hand, and the lease says so."""
        left = list(page.records)
        while left and not self._past(held):
            count = 1 if held.doubt.opened_apart(left[0].position) else len(left)
            await self._records(held, lane, left[:count])
            left = left[count:]
        if page.records:
            await self._step(held, held.doubt)

    def _past(self, held: Held) -> bool:
        return held.doubt.past(held.beyond, self._reads_ahead)

    async def _records(self, held: Held, lane: Lane, records: Sequence[Record]) -> None:
        """Look into these Kinesis records, and try what they hold."""
        waiting, left = Waiting(), list[Record]()
        waiting.beyond = held.at
        opens = [record for record in records if record.data.startswith(kpl.MAGIC)]
        if opens and held.doubt.condemned(opens[-1].position.end_of_record, self._give_up_after):
            self._condemn_whole(held, opens.pop())
        if opens:
            waiting.within = await self._stage.misplaced.within(held.shard_id)
            await self._step(held, held.doubt.tries(*_opening(opens)))
        waiting.put([looked_into(record) if record.outcome is None else record for record in records])
        while (left or waiting) and not self._past(held):
            left = left or waiting.take(held.piece, AT_A_TIME_BYTES)
            self._stage.misplaced.note(lane.shard, waiting.misplaced)
            left = self._passed_over(held, left)
            if left:
                left = await self._try(held, lane, left)
            if waiting and not left and isinstance(waiting.first, Aggregate):
                await self._step(held, held.doubt.tries(*_opening([waiting.first, opens[-1]])))

    def _passed_over(self, held: Held, left: list[Record]) -> list[Record]:
        """The records that are not durable. The others were, before they were tried: whoever died had not died of one
        of them."""
        fresh = list(after(held.at, left))
        self._count(held, left[: len(left) - len(fresh)])
        return fresh

    async def _try(self, held: Held, lane: Lane, left: list[Record]) -> list[Record]:
        """Try the first of these records until they are durable; returns the others."""
        whole_is_given_up = _is_given_up(left[0])
        count = 1 if whole_is_given_up else held.doubt.together([record.position for record in left], held.piece)
        tried, left = left[:count], left[count:]
        first, last = tried[0].position, tried[-1].position
        if held.doubt.condemned(first, self._give_up_after):
            self._condemn(tried[0], held.doubt)
        named = _opening(tried) if whole_is_given_up else (first, last)
        await self._step(held, held.doubt.tries(*named))
        began_s = self._clock()
        self._stage.admit(lane, tried)
        await self._stage.end(lane)
        if lane.durable is None or lane.durable < last:
            raise Broken(f"{held.shard_id}: drained to {lane.durable}, though {last} was taken")
        self._stage.noted(lane)
        held.at = max(last.end_of_record if tried[-1].whole else last, lane.durable)
        held.doubt = held.doubt.passes(held.at)
        self._count(held, tried)
        if count == held.piece:
            held.piece = piece_after(held.piece, self._clock() - began_s)
        return left

    def _count(self, held: Held, passed: Sequence[Record]) -> None:
        """These are durable. The next step says so: a note is a write, and so is a checkpoint."""
        whole = [record.position for record in passed if record.whole]
        read = held.doubt.read
        held.beyond += sum(read is None or position > read for position in whole)
        held.checkpoint = whole[-1] if whole else held.checkpoint

    def _condemn_whole(self, held: Held, record: Record) -> None:
        """An aggregate that kills before a single user record is taken out of it: all that is left of it goes."""
        if held.at is not None and held.at.sequence == record.position.sequence:
            record.sub = held.at.sub + 1
        self._condemn(record, held.doubt)

    def _condemn(self, record: Record, doubt: Doubt) -> None:
        """It is not tried. Should even its dead letter end a task, the next does without the payload."""
        deaths = len(doubt.alone)
        reason = f"{deaths} tasks ended while they had this record by itself: {doubt.why()}"
        payload = record.data
        if deaths > alone_at_most(self._give_up_after):
            payload, reason = b"", f"{reason}; its payload is left out, since a task ended over its dead letter, too"
        record.settle(Dead(payload, reason, "", deaths, KIND))
        log.error("%s: moving past record %s: %s", record.shard_id, record.position, reason)
        self._on_event(Condemned(KIND))

    async def _step(self, held: Held, doubt: Doubt) -> None:
        """Note it, and the checkpoint if it has moved."""
        held.doubt = doubt
        checkpoint = held.checkpoint if held.checkpoint != held.written else None
        if not await self._ask(partial(self._notes.step, held.shard_id, self._holder, doubt, checkpoint)):
            raise Lost
        held.written = held.checkpoint

    async def _ask(self, work: Callable[[], Any]) -> Any:
        """The answer, within :data:`ANSWER`."""

        def tell(error: Exception, wait_s: float) -> None:
            log.warning("%s; again in %.1f s", one_line(error), wait_s)

        try:
            return await ANSWER.call(partial(self._call, work), on_failure=tell, sleep=self._sleep)
        except Exception as error:
            raise Hindered(one_line(error)) from error


def _opening(records: Sequence[Record]) -> tuple[Position, Position]:
    """What a note calls Kinesis records that are taken apart: the places behind all that the first and last hold."""
    return records[0].position.end_of_record, records[-1].position.end_of_record


def _is_given_up(record: Record) -> bool:
    return isinstance(record.outcome, Dead) and record.outcome.kind == KIND


@dataclass
class Held:
    """A lease that this task's careful reader has. ``checkpoint`` is the lease's: at the end of a whole record.

    ``at``: all up to there is durable. ``beyond``: Kinesis records passed after ``doubt.read``, or all of them.
    ``piece``: records that may be tried together. ``written``: the checkpoint that the lease has, as far as it is ours.
    """

    shard_id: str
    checkpoint: Position | None
    doubt: Doubt
    at: Position | None = None
    beyond: int = 0
    piece: int = PIECE
    written: Position | None = None
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    keeping: asyncio.Task[None] | None = None
