"""When a task reads shards carefully: before its JVM starts, and after its JVM has ended.

A task reads a shard in doubt with no other shard. A task that finds one at start reads it first. A task to which KCL
assigns one drains its other shards, ends its JVM, reads the shard, and restarts. A task whose JVM has died reads the
shards that are in doubt as a result.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence

from consumer.poison.held_leases import Held, Hindered
from consumer.poison.notes import LeaseNotes, Noted
from consumer.poison.reader import PoisonReader
from consumer.poison.session_notes import Doubts, in_short, may_be_caused_by_a_record
from pipeline.background import Work
from pipeline.errors import one_line

log = logging.getLogger("careful")

MARGIN_S = 1.0
"""Seconds beyond ``failover_ms`` after which a lease that was not renewed counts as free."""


class CarefulReadings:
    """The careful readings of one task. ``busy`` has the shards that it reads carefully now, or will next."""

    def __init__(self, notes: LeaseNotes, doubts: Doubts, *, failover_s: float) -> None:
        self.busy: set[str] = set()
        self.notes = notes
        self._doubts = doubts
        self._silence_s = failover_s + MARGIN_S

    async def at_start(self, careful: PoisonReader, failing: Work) -> None:
        """Read every shard in doubt that no living task holds. Cancel it to leave."""
        first = await self._in_doubt()
        if any(noted.lease.holder for noted in first.values()):
            await asyncio.sleep(self._silence_s)
        for shard_id, noted in (await self._in_doubt()).items() if first else ():
            if not noted.lease.holder or _stands_still(first.get(shard_id), noted):
                await self.read(careful, await self._hold(careful, [noted]), failing)

    async def take(self, careful: PoisonReader, worker_id: str, shard_ids: Collection[str] | None) -> list[Held]:
        """Take the leases in doubt of ``worker_id``, whose JVM has ended. ``shard_ids`` None means all of them."""
        found = [noted for noted in (await self._in_doubt()).values() if noted.lease.holder == worker_id]
        return await self._hold(careful, [each for each in found if shard_ids is None or each.shard_id in shard_ids])

    async def read(self, careful: PoisonReader, held: Sequence[Held], failing: Work) -> None:
        """Read the shards one after the other. All leases are released at the end, also after an error.

        A shard that could not be read for a reason other than a record is left for the next reading, or for KCL.
        """
        left = list(held)
        try:
            while left:
                try:
                    await careful.read(left[0], failing)
                except Hindered as error:
                    log.warning("%s cannot be read carefully now: %s", left[0].shard_id, error)
                self.busy.discard(left.pop(0).shard_id)
        finally:
            for each in left[1:]:
                await careful.free(each)
            self.busy.clear()

    async def note_end(self, error: BaseException, worker_id: str, begun: Collection[str]) -> None:
        """Before this task ends with ``error``: note whether its shards may be the cause.

        ``begun`` has the shards with an active session. The JVM may also have died of a shard without a session yet, so
        every lease of the worker is noted.
        """
        if not may_be_caused_by_a_record(error):
            for shard_id in begun:
                await self._doubts.ended(shard_id)
            return
        found = await self._all()
        for shard_id in {*begun, *(noted.shard_id for noted in found if noted.lease.holder == worker_id)}:
            await self._doubts.died(shard_id, in_short(error))

    async def _in_doubt(self) -> dict[str, Noted]:
        return {noted.shard_id: noted for noted in await self._all() if _may_be_read(noted)}

    async def _hold(self, careful: PoisonReader, found: Sequence[Noted]) -> list[Held]:
        held = [each for noted in found if (each := await self._held(careful, noted)) is not None]
        self.busy |= {each.shard_id for each in held}
        return held

    async def _held(self, careful: PoisonReader, noted: Noted) -> Held | None:
        try:
            return await careful.hold(noted)
        except Hindered as error:
            log.warning("%s: its lease cannot be taken for a careful reading: %s", noted.shard_id, error)
            await self._doubts.hindered(noted.shard_id)
            return None

    async def _all(self) -> list[Noted]:
        """Return all leases, or none if the table cannot be read: KCL can then still read the shards."""
        try:
            return await asyncio.to_thread(lambda: list(self.notes.all()))
        except Exception as error:  # noqa: BLE001  # no error here may stop a task
            log.warning("the leases cannot be read: %s", one_line(error))
            return []


def _may_be_read(noted: Noted) -> bool:
    """Whether the shard is in doubt if the noted reader counts as dead. Its lease shows whether it is."""
    return noted.may_be_careful and noted.doubt.begun("").doubtful


def _stands_still(before: Noted | None, now: Noted) -> bool:
    def seen(noted: Noted) -> tuple[str, str, int]:
        return noted.lease.owner, noted.lease.draining_owner, noted.lease.counter

    return before is not None and seen(before) == seen(now)
