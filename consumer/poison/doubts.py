"""Keeps the notes of :mod:`consumer.poison.doubt` for a task's sessions: one write when a session begins and one when
it ends.

Nothing here stops a session: where the lease table does not answer, a note is missed, and the log says so. A missed
note makes a shard look better than it is, or worse; it costs a careful reading, or one more task.
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
from pipeline.errors import Broken, PenstockError, one_line
from pipeline.flow.bounds import AT_A_TIME
from pipeline.record import Position, Record

log = logging.getLogger("doubts")

TRIES = 4
"""Of a change to a note that somebody else changes at the same time."""

SHORT = 200
"""Characters of an error that a note keeps."""

RELIEF_S = 1_800.0
"""A shard that is far behind is watched for so long: what a task had beyond its checkpoint lies behind it by then."""

FAR_MS = 60_000
"""A shard that is so far behind has each message noted even if nobody has died of it: its messages are large and few,
and once what a dead task had taken is durable, its death is forgiven. One that is less far behind catches up."""

AHEAD = 4 * AT_A_TIME
"""User records of an aggregate that are noted at once before they are let in."""


class Notes(Protocol):
    """:class:`consumer.poison.notes.LeaseNotes`, as far as sessions need it."""

    def read(self, shard_id: str) -> Noted | None: ...

    def write(self, shard_id: str, before: str, doubt: Doubt) -> bool: ...


class Reading(Protocol):
    """One session's."""

    async def takes(self, end: Position | None, behind_ms: int | None) -> None:
        """Before a message is taken: it ends here, and is so far behind the stream's tip."""
        ...

    async def meets(self, last: Record) -> None:
        """Before user records are let in: this is their last."""
        ...

    async def checkpointed(self, position: Position) -> None: ...

    async def ended(self) -> None:
        """The session is over, and the task lives."""
        ...


class Doubting(Protocol):
    """:class:`Doubts`, as a session needs it."""

    async def begin(self, shard_id: str) -> Reading | None: ...


class Doubts:
    """Of one task. ``call`` makes a blocking call elsewhere.

    ``on_doubt`` is told of each shard that was given to this task and must be read carefully.
    """

    def __init__(
        self,
        notes: Notes,
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
        """Note that this task reads the shard; None: it must not be read, but carefully."""
        doubt = await self.change(shard_id, self._begun)
        if doubt is not None and doubt.doubtful and doubt.by != self.worker_id:
            tell_of(shard_id, doubt, "it is set aside, to be read carefully")
            self._on_doubt(shard_id)
            return None
        if doubt is not None and doubt.watched:
            tell_of(shard_id, doubt, "it is watched")
        return _Session(self, shard_id, doubt)

    async def died(self, shard_id: str, how: str) -> Doubt | None:
        """This task ends, and the shard may be why."""

        def dies(noted: Noted) -> Doubt:
            doubt = noted.doubt
            set_aside = doubt.doubtful and not doubt.by
            return doubt if set_aside or doubt.by not in {"", self.worker_id} else doubt.died(self.worker_id, how)

        return await self.change(shard_id, dies)

    async def ended(self, shard_id: str) -> None:
        """This task reads the shard no more, and lives."""
        await self.change(shard_id, lambda noted: noted.doubt.ended(self.worker_id))

    async def hindered(self, shard_id: str) -> None:
        """The shard could not even be held, to be read carefully."""
        await self.change(shard_id, lambda noted: noted.doubt.hinders() if not noted.doubt.by else noted.doubt)

    async def change(self, shard_id: str, how: Callable[[Noted], Doubt]) -> Doubt | None:
        """What is noted then; None if there is no lease, or no answer."""
        try:
            for _ in range(TRIES):
                noted = await self._call(partial(self._notes.read, shard_id))
                if noted is None:
                    return None
                after = how(noted)
                if await self._call(partial(self._notes.write, shard_id, noted.text, after)):
                    return after
        except Exception as error:  # noqa: BLE001  # a note is worth no session
            log.warning("%s: its note cannot be kept: %s", shard_id, one_line(error))
        return None

    def _begun(self, noted: Noted) -> Doubt:
        """One to be read carefully is not begun: nobody is to be blamed for what happens before it is."""
        begun = noted.doubt.begun(self.worker_id)
        return begun.ended(self.worker_id) if begun.doubtful and noted.may_be_careful else begun

    async def write(self, shard_id: str, before: Doubt, after: Doubt) -> bool:
        """Change what this task has noted; false if it is not as it was, or there is no answer."""
        try:
            return bool(await self._call(partial(self._notes.write, shard_id, written(before), after)))
        except Exception as error:  # noqa: BLE001  # as above
            log.warning("%s: its note cannot be kept: %s", shard_id, one_line(error))
            return False


class Unwatched:
    """For sessions of which nobody keeps notes."""

    async def begin(self, shard_id: str) -> Reading | None:
        return self

    async def takes(self, end: Position | None, behind_ms: int | None) -> None:
        return

    async def meets(self, last: Record) -> None:
        return

    async def checkpointed(self, position: Position) -> None:
        return

    async def ended(self) -> None:
        return


class _Session:
    """Made by :meth:`Doubts.begin`. ``doubt`` None: nothing could be noted."""

    def __init__(self, doubts: Doubts, shard_id: str, doubt: Doubt | None) -> None:
        self._doubts = doubts
        self._shard_id = shard_id
        self._doubt = doubt
        self._began_s = doubts.clock()
        self._changing = asyncio.Lock()
        self._place = doubt.read if doubt is not None and doubt.watched else None
        """Where the dead were, if they noted it."""
        self._past_it = 0
        """Messages since. KCL may have read so many ahead, and its JVM died of one of them."""
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
        """Within an aggregate, what comes next is noted, too."""
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
        """So far it is about to take the shard; or that this is noted no more, and unknown."""
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
            log.info("%s is in order: it is past what tasks may have ended over", self._shard_id)

    async def _become(self, change: Callable[[Doubt], Doubt]) -> None:
        """One after the other: a session takes messages while the stage lets in what they hold."""
        async with self._changing:
            before = self._doubt
            if before is None or (after := change(before)) == before:
                return
            self._doubt = after if await self._doubts.write(self._shard_id, before, after) else None


def tell_of(shard_id: str, doubt: Doubt, what: str) -> None:
    """One line for operators: how many tasks, how they ended, and what follows."""
    log.warning("%s: %d tasks have ended over it (%s); %s", shard_id, len(doubt.deaths), doubt.why(), what)


def may_be_a_records_doing(error: BaseException) -> bool:
    """What is broken by itself, or is asked to leave, has not died of the record in hand."""
    return isinstance(error, Broken) or (isinstance(error, Exception) and not isinstance(error, PenstockError))


def in_short(error: BaseException) -> str:
    """How a task ended, for its note: one printable line, whatever the error says."""
    text = str(error) if isinstance(error, PenstockError) else one_line(error)
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= SHORT else f"{line[:SHORT]}…"
