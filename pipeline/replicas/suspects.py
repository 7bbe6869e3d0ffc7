"""Who is to blame for failures: the records that failed alone, or the replicas on which they failed.

:mod:`pipeline.replicas.trial` explains the rules, and makes the tries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from pipeline.errors import Fatal
from pipeline.outages import Component
from pipeline.record import Fault, Record
from pipeline.replicas.pool import START, Pool
from pipeline.replicas.process import ReplicaProcess, Unbegun
from pipeline.replicas.witnesses import Witnesses

SICK = "fails records that passed before"


@dataclass(slots=True)
class Suspect:
    """A record that failed alone. ``link``: on which replica; None if that replica ended because of it. ``passes``:
    how many answers had passed by then, on that replica or in all.
    """

    record: Record
    fault: Fault
    attempts: int
    link: ReplicaProcess | None
    passes: int
    is_new: bool


class Suspects:
    """The suspects of one round of tries.

    ``nobody_is_well``: no replica passes a witness, so a further try says nothing. ``asked``: a replica was checked
    already in this round.
    """

    def __init__(
        self,
        pool: Pool,
        witnesses: Witnesses,
        part: Component,
        *,
        on_guilty: Callable[[Record, Fault, int], object],
        on_call: Callable[[], object],
    ) -> None:
        """``on_guilty`` gets each record that is to blame, its fault, and how often it was tried alone. ``on_call`` is
        called before each further call of the model.
        """
        self.nobody_is_well = False
        self.asked = False
        self._found: list[Suspect] = []
        self._pool = pool
        self._witnesses = witnesses
        self._part = part
        self._on_guilty = on_guilty
        self._on_call = on_call

    def add(
        self, record: Record, fault: Fault, attempts: int | None, link: ReplicaProcess | None, *, is_new: bool
    ) -> None:
        """A try of this record failed. ``attempts``: how often it was tried alone; None if it was not alone, or will be
        tried again. ``is_new``: the replica had answered no other request.
        """
        if attempts is None:
            return
        self._found.append(Suspect(record, fault, attempts, link, self._passes(link), is_new))
        if is_new:
            self._witnesses.failed_new()

    async def look_at(self, link: ReplicaProcess) -> None:
        """Check a replica at once when the second suspect failed there: more records would fail on it."""
        if self.asked or len(self._found) < 2:
            return
        self.asked = True
        if await self.is_well(link) is False:
            link.discard(SICK)

    async def judge(self) -> list[Record]:
        """Judge the suspects so far. Return the acquitted records, which must be tried again.

        :raises Fatal: no replica has worked for ``model.give_up_after_s``.
        """
        of_links: dict[ReplicaProcess | None, list[Suspect]] = {}
        for suspect in self._found:
            of_links.setdefault(suspect.link, []).append(suspect)
        self._found = []
        acquitted: list[Record] = []
        for link, suspects in of_links.items():
            passes = self._passes(link)
            guilty = [suspect for suspect in suspects if passes > suspect.passes]
            doubted = [suspect for suspect in suspects if passes <= suspect.passes]
            if doubted and await self._are_guilty(link, doubted):
                guilty += doubted
            else:
                acquitted += [suspect.record for suspect in doubted]
            for suspect in guilty:
                self._on_guilty(suspect.record, suspect.fault, suspect.attempts)
        return acquitted

    async def is_well(self, link: ReplicaProcess) -> bool | None:
        """Whether the replica passes a witness; None if there is none. A replica that has ended does not work."""
        if not link.can_serve:
            return False
        self._on_call()
        try:
            return await self._witnesses.pass_on(partial(self._pool.ask, link))
        except Unbegun:
            return False

    async def may_serve(self, link: ReplicaProcess) -> bool:
        """Whether a replica whose last request failed still works; if not, replace it."""
        well = await self.is_well(link)
        if well or (well is None and self._witnesses.nothing_has_passed):
            return True
        link.discard(SICK if well is False else "was replaced by a fresh one")
        return False

    def _passes(self, link: ReplicaProcess | None) -> int:
        return self._pool.passes if link is None else link.passes

    async def _are_guilty(self, link: ReplicaProcess | None, doubted: Sequence[Suspect]) -> bool:
        """Judge suspects of a replica on which nothing has passed since."""
        if link is not None:
            well = await self.is_well(link)
            if well is not False:
                return well or self._witnesses.nothing_has_passed or all(suspect.is_new for suspect in doubted)
            link.discard(SICK)
            if not all(suspect.is_new for suspect in doubted):
                return False
        if await self._some_are_well():
            self._part.worked()
            return True
        self.nobody_is_well = True
        await self._pause(doubted[0].fault)
        return False

    async def _some_are_well(self) -> bool:
        """Whether any replica, in the end a fresh one, passes a witness; True if there is no witness to try."""
        while True:
            async with self._pool.held(well=True) as link:
                is_new = not link.calls
                if await self.is_well(link) is not False:
                    return True
                link.discard(SICK)
                if is_new:
                    return False

    async def _pause(self, fault: Fault) -> None:
        if self._part.failed(f"records that passed before now fail on every replica ({fault.kind})"):
            lasted_s = self._part.trouble().lasted_s
            raise Fatal(
                f"records that passed before have failed on every replica for {lasted_s:.0f} s (model.give_up_after_s)"
            )
        await asyncio.sleep(START.wait_in(self._part.trouble()))
