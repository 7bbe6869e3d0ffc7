"""One batch, from its first try to an outcome on each of its records. What is tried decides
:mod:`pipeline.replicas.bisection`.

A record that has failed by itself is a suspect. It is condemned when its replica is shown to be well since
(:mod:`pipeline.replicas.witnesses`), which mostly comes for nothing: the rest of the batch passes there. Otherwise one
more call asks, for all suspects of a replica. A batch of which each record has a fault of its own is tried once more
beside a witness. If that passes, the faults are the records' own, all of them. If it passes by itself alone, faults
spread in a batch, which is then searched as one that failed.

A replica that fails what passed before is replaced, and what failed on it is tried again on one that is known to be
well: it has done nothing yet, or has just passed. What spoils even a new one is condemned if replicas are well without
it; if none is, nobody is to blame: all is tried again, with pauses, until ``model.give_up_after_s`` has passed. So a
replica that is well is never replaced for a bad record, unless nothing could tell: there is no example, and nothing has
ever passed. Then ``HOPELESS`` new ones are tried, in the life of the task.

Beside the bound of :mod:`pipeline.replicas.bisection` those are three calls at most per batch with a bad record, and
one more try of a record whose tries did not follow each other. Where a replica turned out to be sick, that is spent
once more, with two calls for each record that fails by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import Protocol

from pipeline.errors import Fatal, ReplicaDied
from pipeline.events import ModelEvent, OutOfMemory, Retried
from pipeline.outages import Component
from pipeline.record import Fault, Record
from pipeline.replicas.answers import Answer, Costs, Failed, Rows
from pipeline.replicas.bisection import Bisection
from pipeline.replicas.crash_journal import CrashJournal, Note
from pipeline.replicas.pool import START, LostDevice, Pool
from pipeline.replicas.process import ReplicaProcess, TimedOut, Unbegun
from pipeline.replicas.witnesses import Witnesses, fails

payload_of: Callable[[Record], bytes] = attrgetter("data")
"""Of a model that does not ask whose it is."""

SICK = "fails with what passed before"

NEW_FROM = 2
"""Records that were let off so often are tried by themselves on replicas that have done nothing yet."""

LEAST_IN_A_ROW = 2
"""So often a record must have failed with nothing between, if it is tried more than once: a replica that fails every
other call passes one of two."""


class Bench(Protocol):
    """What becomes of the records is noted here."""

    def passed(self, answer: Rows | Costs, tried: Sequence[Record], bisection: Bisection[Record]) -> None: ...

    def too_large(self, tried: Sequence[Record], bisection: Bisection[Record]) -> None: ...

    def timed_out(self, tried: Sequence[Record]) -> None:
        """A predict call of these."""
        ...

    def bury(self, record: Record, fault: Fault, attempts: int) -> None: ...

    async def device_works(self, reason: str) -> bool: ...


@dataclass(slots=True)
class _Suspect:
    """``link``: where it failed; None if that has ended of it. ``passes``: of that replica, or of all, until then."""

    record: Record
    fault: Fault
    attempts: int
    link: ReplicaProcess | None
    passes: int
    is_new: bool = False


class Trial:
    """Of batches of one kind; several at a time."""

    def __init__(
        self,
        pool: Pool,
        op: str,
        retries: int,
        bench: Bench,
        *,
        on_event: Callable[[ModelEvent], None],
        notes: CrashJournal | None,
        part: Component,
    ) -> None:
        self.witnesses = Witnesses(op)
        self.payload_of: Callable[[Record], bytes] = payload_of
        """What is sent of a record; :meth:`pipeline.record.Payload.of` if the model asks whose it is."""
        self._pool = pool
        self._op = op
        self._retries = retries
        self._bench = bench
        self._on_event = on_event
        self._notes = notes
        self._part = part

    async def settle(self, records: Sequence[Record]) -> None:
        """Every record has its outcome, or has passed, when this returns. ``Fatal`` if nothing will do."""
        turn = 0
        while records:
            records = await _Round(self, turn).run(records)
            turn += 1

    def _retried(self, tried: Sequence[Record]) -> None:
        if self._op == "predict":
            self._on_event(Retried(tuple(dict.fromkeys(record.shard_id for record in tried))))


class _Round:
    """``turn``: how often these records were let off before. From the first time on, they are tried on replicas that
    are known to be well, and judged one by one."""

    def __init__(self, trial: Trial, turn: int) -> None:
        self._trial = trial
        self._pool = trial._pool
        self._bench = trial._bench
        self._turn = turn
        self._suspects: list[_Suspect] = []
        self._again: list[Record] = []
        self._asked = False
        self._spreads = False
        self._nobody_is_well = False
        self._calls = 0

    async def run(self, records: Sequence[Record]) -> list[Record]:
        """Those that must be tried once more."""
        bisection = Bisection(records, self._trial._retries)
        notes: list[Note] = []
        while not self._nobody_is_well and (tried := bisection.next()):
            try:
                if len(tried) == 1 and (self._calls or self._turn):
                    await self._alone(tried, bisection)
                else:
                    await self._together(tried, bisection)
            except Unbegun:
                bisection.unbegun()
            except ReplicaDied as error:
                await self._died(tried, bisection, error, notes)
            if self._turn:
                await self._judge()
        for note in notes:
            await note.end()
        await self._judge()
        return self._again + bisection.left()

    # -- tries

    async def _together(self, tried: list[Record], bisection: Bisection[Record]) -> None:
        self._count(tried)
        payloads = list(map(self._trial.payload_of, tried))
        if self._turn and self._trial.witnesses.exist:
            async with self._well_one(new=False) as link:
                is_new = not link.calls
                answer = await self._pool.ask(link, self._trial._op, payloads)
        else:
            answer, link, is_new = await self._pool.tried(self._trial._op, payloads)
        if len(tried) > 1 and not isinstance(answer, Failed) and fails(answer):
            await self._beside_a_witness(tried, bisection, link)
            return
        self._taken(answer, tried, bisection, link, is_new)
        await self._look_at(link, answer)

    async def _beside_a_witness(self, tried: list[Record], bisection: Bisection[Record], link: ReplicaProcess) -> None:
        """Each of them had a fault of its own: is that the records', the replica's, or one record's for all of them?"""
        if self._spreads or not self._trial.witnesses.exist:
            bisection.failed()
            return
        async with self._pool.held(best=link) as link:
            self._count(tried)
            op, payloads = self._trial.witnesses.beside(list(map(self._trial.payload_of, tried)))
            answer = await self._pool.ask(link, op, payloads)
            if isinstance(answer, Failed):
                self._taken(answer, tried, bisection, link, is_new=False)
            elif len(tried) not in answer.faults:
                self._passed(_without_the_last(answer), tried, bisection)
            elif await self._is_well(link) is False:
                link.discard(SICK)
                self._again += tried
                bisection.passed()
            else:
                self._spreads = self._asked = True
                bisection.failed()

    async def _alone(self, tried: list[Record], bisection: Bisection[Record]) -> None:
        """On a replica that does nothing else meanwhile, so that the tries follow each other."""
        wants_new = self._turn >= NEW_FROM and not self._trial.witnesses.hopeless
        while True:
            with contextlib.suppress(Unbegun):
                async with self._well_one(new=wants_new) as link:
                    is_new = not link.calls
                    answer = await self._in_a_row(link, tried, bisection)
                if answer.op != "worn":
                    break
                wants_new = True
        self._taken(answer, tried, bisection, link, is_new)
        await self._look_at(link, answer)

    @contextlib.asynccontextmanager
    async def _well_one(self, *, new: bool) -> AsyncIterator[ReplicaProcess]:
        """A replica, held; of records that were let off, one that has done nothing yet or was well a moment ago."""
        while True:
            async with self._pool.held(new=new, well=self._turn > 0) as link:
                if not self._turn or link.is_well or await self._may_serve(link):
                    yield link
                    return

    async def _may_serve(self, link: ReplicaProcess) -> bool:
        """Whether one that has failed last may be believed; if not, it is replaced."""
        well = await self._is_well(link)
        if well or (well is None and self._trial.witnesses.hopeless):
            return True
        link.discard(SICK if well is False else "gave way to one that has done nothing yet")
        return False

    async def _in_a_row(self, link: ReplicaProcess, tried: list[Record], bisection: Bisection[Record]) -> Answer:
        """The answer that counts: the first that is no mere failure, or the last one."""
        least = min(LEAST_IN_A_ROW, self._trial._retries + 1)
        failures = 0
        while True:
            self._count(tried)
            answer = await self._pool.ask(link, self._trial._op, [self._trial.payload_of(tried[0])])
            if not fails(answer) or answer.op in {"memory", "worn"}:
                return answer
            failures += 1
            if bisection.attempts <= self._trial._retries:
                bisection.failed()
                bisection.next()
            elif failures >= least:
                return answer

    def _count(self, tried: Sequence[Record]) -> None:
        if self._calls or self._turn:
            self._trial._retried(tried)
        self._calls += 1

    # -- what came of them

    def _taken(
        self, answer: Answer, tried: list[Record], bisection: Bisection[Record], link: ReplicaProcess, is_new: bool
    ) -> None:
        if isinstance(answer, Failed) and answer.op in {"memory", "worn"}:
            self._trial._on_event(OutOfMemory(len(tried)))
            self._suspect(tried, answer.fault, bisection.too_large(), link, is_new)
            self._bench.too_large(tried, bisection)
        elif isinstance(answer, Failed):
            self._suspect(tried, answer.fault, bisection.failed(), link, is_new)
        elif not fails(answer):
            self._passed(answer, tried, bisection)
        elif len(tried) == 1:
            self._suspect(tried, answer.faults[0], bisection.failed(), link, is_new)
        else:
            bisection.failed()

    def _passed(self, answer: Rows | Costs, tried: list[Record], bisection: Bisection[Record]) -> None:
        self._bury(tried, answer.faults, bisection.attempts)
        good = next((record for index, record in enumerate(tried) if index not in answer.faults), None)
        if good is not None:
            self._trial.witnesses.passed(self._trial.payload_of(good))
        self._bench.passed(answer, tried, bisection)
        bisection.passed()

    def _bury(self, tried: list[Record], faults: dict[int, Fault], attempts: int) -> None:
        for index, fault in faults.items():
            self._bench.bury(tried[index], fault, attempts)

    def _suspect(
        self, tried: list[Record], fault: Fault, attempts: int | None, link: ReplicaProcess | None, is_new: bool
    ) -> None:
        if attempts is None:
            return
        passes = self._pool.passes if link is None else link.passes
        self._suspects.append(_Suspect(tried[0], fault, attempts, link, passes, is_new))
        if is_new:
            self._trial.witnesses.failed_new()

    async def _died(
        self, tried: list[Record], bisection: Bisection[Record], error: ReplicaDied, notes: list[Note]
    ) -> None:
        fault = Fault("timeout" if isinstance(error, TimedOut) else "died", str(error))
        if fault.kind == "died" and len(tried) > 1 and self._trial._notes is not None:
            notes.append(await self._trial._notes.begin(tried))
        if fault.kind == "timeout" and self._trial._op == "predict":
            self._bench.timed_out(tried)
        attempts = bisection.died()
        if attempts and isinstance(error, LostDevice):
            if await self._bench.device_works(str(error)):
                self._bench.bury(tried[0], fault, attempts)
            else:
                bisection.excused()
        else:
            self._suspect(tried, fault, attempts, None, is_new=True)

    # -- who is to blame

    async def _look_at(self, link: ReplicaProcess, answer: Answer) -> None:
        """Where a suspect failed, more fails: rather look at once than try all the others there."""
        if self._asked or not fails(answer) or len(self._suspects) < 2:
            return
        self._asked = True
        if await self._is_well(link) is False:
            link.discard(SICK)

    async def _judge(self) -> None:
        of_links: dict[ReplicaProcess | None, list[_Suspect]] = {}
        for suspect in self._suspects:
            of_links.setdefault(suspect.link, []).append(suspect)
        self._suspects = []
        for link, suspects in of_links.items():
            passes = self._pool.passes if link is None else link.passes
            believed = [suspect for suspect in suspects if passes > suspect.passes]
            doubted = [suspect for suspect in suspects if passes <= suspect.passes]
            if doubted and await self._are_guilty(link, doubted):
                believed += doubted
            elif doubted:
                self._again += [suspect.record for suspect in doubted]
            for suspect in believed:
                self._bench.bury(suspect.record, suspect.fault, suspect.attempts)

    async def _are_guilty(self, link: ReplicaProcess | None, doubted: list[_Suspect]) -> bool:
        """Of records after which nothing has passed there."""
        if link is not None:
            well = await self._is_well(link)
            if well is not False:
                return well or self._trial.witnesses.hopeless or all(suspect.is_new for suspect in doubted)
            link.discard(SICK)
            if not all(suspect.is_new for suspect in doubted):
                return False
        if await self._some_are_well():
            self._part_worked()
            return True
        self._nobody_is_well = True
        await self._pause(doubted[0].fault)
        return False

    async def _is_well(self, link: ReplicaProcess) -> bool | None:
        """Whether the replica does with what passed before; None if nothing has. One that has ended is not well."""
        if not link.can_serve:
            return False
        self._trial._retried(())
        try:
            return await self._trial.witnesses.pass_on(partial(self._pool.ask, link))
        except Unbegun:
            return False

    async def _some_are_well(self) -> bool:
        """Whether any replica does with what passed before, a new one at last; also if there is nothing to ask for."""
        while True:
            async with self._pool.held(well=True) as link:
                is_new = not link.calls
                if await self._is_well(link) is not False:
                    return True
                link.discard(SICK)
                if is_new:
                    return False

    def _part_worked(self) -> None:
        self._trial._part.worked()

    async def _pause(self, fault: Fault) -> None:
        part = self._trial._part
        if part.failed(f"what passed before passes on no replica any more ({fault.kind})"):
            lasted_s = part.trouble().lasted_s
            raise Fatal(f"what passed before has passed on no replica for {lasted_s:.0f} s (model.give_up_after_s)")
        await asyncio.sleep(START.wait_in(part.trouble()))


def _without_the_last(answer: Rows | Costs) -> Rows | Costs:
    """What it says of the others, where the last of what was tried has passed."""
    if isinstance(answer, Costs):
        return replace(answer, costs=answer.costs[:-1])
    return replace(answer, batch=answer.batch.slice(0, answer.batch.num_rows - 1))
