"""Leases that a careful reader holds: taken, renewed, written to, and released."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from consumer.poison.doubt import PIECE, Doubt
from consumer.poison.notes import HOLDER, Noted
from consumer.poison.session_notes import tell_of
from pipeline import background
from pipeline.errors import one_line
from pipeline.record import Position
from pipeline.retry import Retry, only

log = logging.getLogger("careful")

KEEP_S = 2.0
"""Seconds between two renewals of a held lease; ``kcl.failover_ms`` is 10 s by default."""

ANSWER = Retry(0.5, 8.0, tries=7, on=only(ClientError, BotoCoreError, OSError))
"""Retries a service that does not answer, for 23.5 s: a new careful reading would take longer."""

FREE = Retry(1.0, 1.0, tries=4)
"""Retries the release of a lease: a note that remains would count as a death of this task."""


class ReaderNotes(Protocol):
    """The part of :class:`consumer.poison.notes.LeaseNotes` that a careful reader needs."""

    def hold(self, noted: Noted, holder: str, doubt: Doubt) -> bool:
        """See :meth:`consumer.poison.notes.LeaseNotes.hold`."""
        ...

    def step(self, shard_id: str, holder: str, doubt: Doubt, checkpoint: Position | None = None) -> bool:
        """See :meth:`consumer.poison.notes.LeaseNotes.step`."""
        ...

    def keep(self, shard_id: str, holder: str) -> bool:
        """See :meth:`consumer.poison.notes.LeaseNotes.keep`."""
        ...

    def free(self, shard_id: str, holder: str, doubt: Doubt) -> bool:
        """See :meth:`consumer.poison.notes.LeaseNotes.free`."""
        ...


class Lost(Exception):
    """Another worker has taken the lease."""


class Hindered(Exception):
    """A read of the shard or a write to its lease failed. No record is the cause."""


@dataclass
class Held:
    """A lease that the careful reader holds.

    ``checkpoint`` is always at the end of a whole record; ``written`` is the one that this reader has stored last.
    Everything up to ``at`` is durable. ``beyond`` counts the Kinesis records passed after ``doubt.read`` (or all, if
    that is None). ``piece`` is the number of records that may be tried together.
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


class HeldLeases:
    """Takes and keeps leases for one reader, one after the other. ``call`` makes a blocking call."""

    def __init__(
        self,
        notes: ReaderNotes,
        worker_id: str,
        call: Callable[[Callable[[], Any]], Awaitable[Any]],
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self.holder = f"{HOLDER}{worker_id}"
        self._notes = notes
        self._call = call
        self._sleep = sleep

    async def hold(self, noted: Noted) -> Held | None:
        """Take a lease that has no living owner. Returns None if another worker was first.

        :raises Hindered: if it is unknown whether the lease was taken.
        """
        doubt = noted.doubt.begun(self.holder)
        try:
            if not await self._call(partial(self._notes.hold, noted, self.holder, doubt)):
                return None
        except Exception as error:
            raise Hindered(one_line(error)) from error
        tell_of(noted.shard_id, doubt, "it is read carefully, without KCL and with no other shard in the task")
        held = Held(noted.shard_id, noted.lease.checkpoint, doubt)

        def lose(error: BaseException) -> None:
            held.lost.set()

        held.keeping = background.start(partial(self._keep, held), name="a held lease", on_failure=lose)
        return held

    async def free(self, held: Held) -> None:
        """Release the lease. Never raises: a lease that cannot be released expires."""
        if held.keeping is not None:
            held.keeping.cancel()
            await asyncio.gather(held.keeping, return_exceptions=True)
        doubt = held.doubt.ended(self.holder) if held.doubt.by == self.holder else held.doubt

        def tell(error: Exception, wait_s: float) -> None:
            log.warning("%s: its lease cannot be released: %s", held.shard_id, one_line(error))

        async def give_up() -> None:
            await asyncio.shield(self._call(partial(self._notes.free, held.shard_id, self.holder, doubt)))

        try:
            await FREE.call(give_up, on_failure=tell)
        except Exception as error:  # noqa: BLE001  # the lease expires by itself
            log.warning("%s: its lease was not released and will expire: %s", held.shard_id, one_line(error))

    async def _keep(self, held: Held) -> None:
        while not held.lost.is_set():
            await asyncio.sleep(KEEP_S)
            try:
                if not await self._call(partial(self._notes.keep, held.shard_id, self.holder)):
                    held.lost.set()
            except Exception as error:
                log.warning("%s: its lease cannot be renewed: %s", held.shard_id, error, exc_info=True)

    async def step(self, held: Held, doubt: Doubt) -> None:
        """Write the note, and the checkpoint if it has moved."""
        held.doubt = doubt
        checkpoint = held.checkpoint if held.checkpoint != held.written else None
        if not await self.ask(partial(self._notes.step, held.shard_id, self.holder, doubt, checkpoint)):
            raise Lost
        held.written = held.checkpoint

    async def ask(self, work: Callable[[], Any]) -> Any:
        """Call a service and return the answer. Failed calls are retried as :data:`ANSWER` says."""

        def tell(error: Exception, wait_s: float) -> None:
            log.warning("%s; again in %.1f s", one_line(error), wait_s)

        try:
            return await ANSWER.call(partial(self._call, work), on_failure=tell, sleep=self._sleep)
        except Exception as error:
            raise Hindered(one_line(error)) from error
