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
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from consumer.doubt import Doubt, alone_at_most
from consumer.doubts import in_short, tell_of
from consumer.lease_notes import HOLDER, Noted
from pipeline import background
from pipeline.errors import Broken, Fatal, PenstockError
from pipeline.events import Condemned, ModelEvent
from pipeline.lane import Waiting
from pipeline.record import Dead, Position, Record, Shard
from pipeline.stage import Lane, Stage

log = logging.getLogger("careful")

KEEP_S = 2.0
"""Between two renewals of a held lease; ``kcl.failover_ms`` is a second at least, and ten by default."""

AT_A_TIME, AT_A_TIME_BYTES = 1_000, 16 * 1024 * 1024
"""User records that are taken out of an aggregate before the first of them is tried."""

PAUSE_S = 0.25
"""Between two reads of a shard, which takes five a second from everybody together."""


class Notes(Protocol):
    """:class:`consumer.lease_notes.LeaseNotes`, as far as a careful reader needs it."""

    def hold(self, noted: Noted, holder: str, doubt: Doubt) -> bool: ...

    def step(self, shard_id: str, holder: str, doubt: Doubt, checkpoint: Position | None = None) -> bool: ...

    def keep(self, shard_id: str, holder: str) -> bool: ...

    def free(self, shard_id: str, holder: str, doubt: Doubt) -> bool: ...


@dataclass(frozen=True, slots=True)
class Page:
    """Records in sequence order, aggregates as they are. ``last``: nothing of the shard comes after them now."""

    records: Sequence[Record]
    last: bool


class Pages(Protocol):
    """Reads a shard. Blocks."""

    def after(self, shard_id: str, position: Position | None) -> Page:
        """What comes after the Kinesis record of this number; None: from where the application starts."""
        ...


class Lost(Exception):
    """The lease is somebody else's."""


class Careful:
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

    async def hold(self, noted: Noted) -> Held | None:
        """Take the lease from whoever is dead, or has given it up; None if somebody was quicker."""
        doubt = noted.doubt.begun(self._holder)
        if not await self._call(partial(self._notes.hold, noted, self._holder, doubt)):
            return None
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
        """
        try:
            if await background.first_of(partial(self._read, held), held.lost.wait, failing) == 1:
                raise Lost
            held.doubt = held.doubt.in_order().ended(self._holder)
            log.info("%s is in order again: KCL may have it", held.shard_id)
        except Lost:
            log.warning("%s: its lease was taken away while it was read carefully", held.shard_id)
        except BaseException as error:
            held.doubt = self._after(held.doubt, error)
            raise
        finally:
            await self.free(held)

    async def free(self, held: Held) -> None:
        """Give the lease up; one that cannot be given up runs out."""
        if held.keeping is not None:
            held.keeping.cancel()
            await asyncio.gather(held.keeping, return_exceptions=True)
        doubt = held.doubt.ended(self._holder) if held.doubt.by == self._holder else held.doubt
        try:
            await asyncio.shield(self._call(partial(self._notes.free, held.shard_id, self._holder, doubt)))
        except Exception as error:
            log.warning("%s: its lease is left to expire: %s", held.shard_id, error, exc_info=True)

    def _after(self, doubt: Doubt, error: BaseException) -> Doubt:
        """What is broken by itself, or is asked to leave, has not died of the record in hand."""
        if isinstance(error, Broken) or (isinstance(error, Exception) and not isinstance(error, PenstockError)):
            return doubt.died(self._holder, in_short(error))
        return doubt.ended(self._holder)

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
        at = max((position for position in behind if position is not None), default=None)
        lane = self._stage.open(self._shard(held.shard_id), at)
        within = await self._stage.misplaced.within(held.shard_id)
        beyond = 0
        try:
            while not held.doubt.past(beyond, self._reads_ahead):
                page: Page = await self._call(partial(self._pages.after, held.shard_id, held.checkpoint))
                waiting, left = Waiting(), list[Record]()
                waiting.beyond, waiting.within = at, within
                waiting.put(page.records)
                while (left or waiting) and not held.doubt.past(beyond, self._reads_ahead):
                    left = left or waiting.take(AT_A_TIME, AT_A_TIME_BYTES)
                    if waiting.misplaced:
                        self._stage.misplaced.note(lane.shard, waiting.misplaced)
                        waiting.misplaced.clear()
                    if not left:
                        continue
                    tried, left = await self._try(held, lane, left)
                    at = tried[-1].position
                    read = held.doubt.read
                    beyond += sum(record.whole and (read is None or record.position > read) for record in tried)
                if page.last and not left and not waiting:
                    return
                await asyncio.sleep(PAUSE_S)
        finally:
            self._stage.abandon(lane)

    async def _try(self, held: Held, lane: Lane, left: list[Record]) -> tuple[list[Record], list[Record]]:
        """Try the first of these records; returns them, durable, and the others."""
        count = held.doubt.together([record.position for record in left])
        tried, left = left[:count], left[count:]
        first, last = tried[0].position, tried[-1].position
        if held.doubt.condemned(first, self._give_up_after):
            self._condemn(tried[0], held.doubt)
        await self._step(held, held.doubt.tries(first, last))
        whole = [record.position for record in tried if record.whole]
        self._stage.admit(lane, tried)
        await self._stage.drain(lane)
        if lane.durable is None or lane.durable < last:
            raise Fatal(f"{held.shard_id}: drained to {lane.durable}, though {last} was taken")
        held.checkpoint = whole[-1] if whole else held.checkpoint
        await self._step(held, held.doubt.passes(last), whole[-1] if whole else None)
        return tried, left

    def _condemn(self, record: Record, doubt: Doubt) -> None:
        """It is not tried. Should even its dead letter end a task, the next does without the payload."""
        deaths = len(doubt.alone)
        reason = f"{deaths} tasks ended while they had this record by itself: {doubt.why()}"
        payload = record.data
        if deaths > alone_at_most(self._give_up_after):
            payload, reason = b"", f"{reason}; its payload is left out, since a task ended over its dead letter, too"
        record.outcome = Dead(payload, reason, "", deaths, "killed")
        log.error("%s: moving past record %s: %s", record.shard_id, record.position, reason)
        self._on_event(Condemned("killed"))

    async def _step(self, held: Held, doubt: Doubt, checkpoint: Position | None = None) -> None:
        held.doubt = doubt
        if not await self._call(partial(self._notes.step, held.shard_id, self._holder, doubt, checkpoint)):
            raise Lost


@dataclass
class Held:
    """A lease that this task's careful reader has. ``checkpoint`` is the lease's: at the end of a whole record."""

    shard_id: str
    checkpoint: Position | None
    doubt: Doubt
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    keeping: asyncio.Task[None] | None = None
