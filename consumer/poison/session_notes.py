"""Keeps the notes of :mod:`consumer.poison.doubt` for the sessions of a task: one write at the start of a session, and
one at its end.

An error here never stops a session: if the lease table does not answer, a note is missing, and the log says so. A
missing note may cost an unnecessary careful reading, or one more task.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from consumer.config.kcl_properties import READS_AHEAD
from consumer.poison.doubt import Doubt, written
from consumer.poison.notes import Noted
from pipeline.errors import Broken, PenstockError, counted, one_line
from pipeline.flow.bounds import AT_A_TIME
from pipeline.record import Position, Record

log = logging.getLogger("doubts")

TRIES = 4
"""Attempts to change a note that another worker changes at the same time."""

SHORT = 200
"""Maximum number of characters of an error in a note."""

RELIEF_S = 1_800.0
"""Seconds after which a shard is no longer watched, even if it is far behind: by then it has passed everything that the
dead task had read beyond its checkpoint."""

FAR_MS = 60_000
"""Lag in milliseconds from which every message is noted, even without a death: the messages are large and few, and a
death can be cleared once the noted records are durable. A shard with a smaller lag catches up quickly."""

AHEAD = 4 * AT_A_TIME
"""User records of an aggregate that one note covers before they are processed."""


class SessionNotes(Protocol):
    """The part of :class:`consumer.poison.notes.LeaseNotes` that sessions need."""

    def read(self, shard_id: str) -> Noted | None:
        """See :meth:`consumer.poison.notes.LeaseNotes.read`."""
        ...

    def write(self, shard_id: str, before: str, doubt: Doubt) -> bool:
        """See :meth:`consumer.poison.notes.LeaseNotes.write`."""
        ...


class Reading(Protocol):
    """The notes of one session."""

    async def takes(self, end: Position | None, behind_ms: int | None) -> None:
        """Before a message is processed. ``end`` is its last position, ``behind_ms`` its lag."""
        ...

    async def meets(self, last: Record) -> None:
        """Before user records are processed. ``last`` is the last of them."""
        ...

    async def checkpointed(self, position: Position) -> None:
        """After KCL has accepted a checkpoint at ``position``."""
        ...

    async def ended(self) -> None:
        """After the session, if the task lives."""
        ...


class Doubting(Protocol):
    """The part of :class:`Doubts` that a session needs."""

    async def begin(self, shard_id: str) -> Reading | None:
        """See :meth:`Doubts.begin`."""
        ...


class Doubts:
    """The notes of one task. ``call`` runs a blocking call, by default in a thread.

    ``on_doubt`` is called with each shard that KCL has assigned to this task and that must be read carefully.
    """

    def __init__(
        self,
        notes: SessionNotes,
        worker_id: str,
        on_doubt: Callable[[str], None],
        *,
        call: Callable[[Callable[[], Any]], Awaitable[Any]] = asyncio.to_thread,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.worker_id = worker_id
        self.clock = clock
        self._notes = notes
        self._on_doubt = on_doubt
        self._call = call

    async def begin(self, shard_id: str) -> Reading | None:
        """Note that this task reads the shard. Returns None if the shard must be read carefully instead."""
        doubt = await self.change(shard_id, self._begun)
        if doubt is not None and doubt.doubtful and doubt.by != self.worker_id:
            tell_of(shard_id, doubt, "it will be read carefully")
            self._on_doubt(shard_id)
            return None
        if doubt is not None and doubt.watched:
            tell_of(shard_id, doubt, "it is watched")
        return _Session(self, shard_id, doubt)

    async def died(self, shard_id: str, how: str) -> Doubt | None:
        """Note that this task dies, possibly because of the shard. Returns the note, or None if it is not known."""

        def dies(noted: Noted) -> Doubt:
            doubt = noted.doubt
            set_aside = doubt.doubtful and not doubt.by
            return doubt if set_aside or doubt.by not in {"", self.worker_id} else doubt.died(self.worker_id, how)

        return await self.change(shard_id, dies)

    async def ended(self, shard_id: str) -> None:
        """Note that this task no longer reads the shard, and lives."""
        await self.change(shard_id, lambda noted: noted.doubt.ended(self.worker_id))

    async def hindered(self, shard_id: str) -> None:
        """Note that the lease of the shard could not be taken for a careful reading."""
        await self.change(shard_id, lambda noted: noted.doubt.hinders() if not noted.doubt.by else noted.doubt)

    async def change(self, shard_id: str, how: Callable[[Noted], Doubt]) -> Doubt | None:
        """Apply ``how`` to the note and return the result; None if there is no lease or no answer."""
        try:
            for _ in range(TRIES):
                noted = await self._call(partial(self._notes.read, shard_id))
                if noted is None:
                    return None
                after = how(noted)
                if await self._call(partial(self._notes.write, shard_id, noted.text, after)):
                    return after
        except Exception as error:  # noqa: BLE001  # a missing note must not stop a session
            log.warning("%s: its note cannot be written: %s", shard_id, one_line(error))
        return None

    def _begun(self, noted: Noted) -> Doubt:
        """A shard that must be read carefully is not started, so that no task is blamed before that."""
        begun = noted.doubt.begun(self.worker_id)
        return begun.ended(self.worker_id) if begun.doubtful and noted.may_be_careful else begun

    async def write(self, shard_id: str, before: Doubt, after: Doubt) -> bool:
        """Change the note of this task. Returns False if the note was changed meanwhile, or there is no answer."""
        try:
            return bool(await self._call(partial(self._notes.write, shard_id, written(before), after)))
        except Exception as error:  # noqa: BLE001  # as above
            log.warning("%s: its note cannot be written: %s", shard_id, one_line(error))
            return False


class Unwatched:
    """Keeps no notes: for sessions without a lease table, as in tests."""

    async def begin(self, shard_id: str) -> Reading | None:
        """Allow every shard."""
        return self

    async def takes(self, end: Position | None, behind_ms: int | None) -> None:
        """Do nothing."""
        return

    async def meets(self, last: Record) -> None:
        """Do nothing."""
        return

    async def checkpointed(self, position: Position) -> None:
        """Do nothing."""
        return

    async def ended(self) -> None:
        """Do nothing."""
        return


class _Session:
    """Made by :meth:`Doubts.begin`. ``doubt`` is None if nothing could be noted."""

    def __init__(self, doubts: Doubts, shard_id: str, doubt: Doubt | None) -> None:
        self._doubts = doubts
        self._shard_id = shard_id
        self._doubt = doubt
        self._began_s = doubts.clock()
        self._changing = asyncio.Lock()
        self._place = doubt.read if doubt is not None and doubt.watched else None
        """The position that dead tasks had noted, if any."""
        self._past_it = 0
        """Messages after it. The JVM may have died of one of the messages that it had read ahead."""
        self._taken: Position | None = None
        self._enough: Position | None = None

    async def takes(self, end: Position | None, behind_ms: int | None) -> None:
        self._taken = end or self._taken
        await self._note(end, behind_ms or 0)
        if self._doubt is None or not self._doubt.watched:
            return
        if end is not None and self._place is not None:
            self._past_it += end > self._place
        if behind_ms == 0 or self._past_it > READS_AHEAD or self._doubts.clock() - self._began_s > RELIEF_S:
            self._enough = self._enough or self._taken
            if self._taken is None:
                await self._relieved()

    async def meets(self, last: Record) -> None:
        """Note the records; within an aggregate, the following ones too."""
        if self._doubt is None or not self._doubt.watched:
            return
        at, met = last.position, self._doubt.met
        after = at if last.whole else Position(at.sequence, at.sub + AT_A_TIME)
        if met is not None and after <= met:
            return
        let_in = at if last.whole else Position(at.sequence, at.sub + AHEAD)
        await self._become(lambda doubt: doubt.meets(let_in))

    async def checkpointed(self, position: Position) -> None:
        if self._enough is not None and position >= self._enough:
            self._enough = None
            await self._relieved()

    async def ended(self) -> None:
        doubt, self._doubt = self._doubt, None
        if doubt is not None:
            await self._doubts.ended(self._shard_id)

    async def _note(self, end: Position | None, behind_ms: int) -> None:
        """Note the position before a message is processed; clear it once the shard has caught up."""
        doubt = self._doubt
        if doubt is None or end is None:
            return
        if doubt.watched or behind_ms >= FAR_MS:
            await self._become(lambda doubt: doubt.reads(end))
        elif doubt.read is not None:
            await self._become(Doubt.in_order)

    async def _relieved(self) -> None:
        if self._doubt is not None and self._doubt.watched:
            await self._become(Doubt.in_order)
            log.info("%s is in order: everything that a dead task may have read is durable", self._shard_id)

    async def _become(self, change: Callable[[Doubt], Doubt]) -> None:
        """Change the note, one change at a time: the session and the stage call this concurrently."""
        async with self._changing:
            before = self._doubt
            if before is None or (after := change(before)) == before:
                return
            self._doubt = after if await self._doubts.write(self._shard_id, before, after) else None


def tell_of(shard_id: str, doubt: Doubt, what: str) -> None:
    """Return one line for operators: how many tasks ended and how, or which record is to be skipped; and what
    follows."""
    for skip in doubt.skips:
        log.warning("%s: an operator passes over the record at %s (%s); %s", shard_id, skip.at.sequence, skip.why, what)
    if not doubt.deaths:
        return
    log.warning("%s: %s ended over it (%s); %s", shard_id, counted(len(doubt.deaths), "task"), doubt.why(), what)


def may_be_caused_by_a_record(error: BaseException) -> bool:
    """Whether the task was asked to leave, or failed for a reason that a record cannot have caused."""
    return isinstance(error, Broken) or (isinstance(error, Exception) and not isinstance(error, PenstockError))


def in_short(error: BaseException) -> str:
    """How a task ended, for its note: one printable line, whatever the error says."""
    text = str(error) if isinstance(error, PenstockError) else one_line(error)
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= SHORT else f"{line[:SHORT]}…"
