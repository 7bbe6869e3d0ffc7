"""Takes one batch from its first try to an outcome for each record. :mod:`pipeline.replicas.bisection` chooses what to
try.

A record that has failed alone is a suspect (:mod:`pipeline.replicas.suspects`). It is condemned when its replica is
shown to work since then (:mod:`pipeline.replicas.witnesses`). Mostly this needs no extra call, because the rest of the
batch passes there; otherwise one call for all suspects of a replica decides. If every record of a batch has its own
fault, the batch is tried once more together with a witness, a record known to pass. If the witness passes, all the
faults are the records' own. If the witness passes only alone, faults spread within a batch, and the batch is searched
like one that failed as a whole.

A replica that fails records that passed before is replaced. What failed on it is tried again on a replica known to
work: one that is fresh, or has just passed a record. A record that spoils even fresh replicas is condemned if replicas
work without it. If none works, no record is blamed: all are tried again, with pauses, until ``model.give_up_after_s``
has passed. So a working replica is never replaced because of a bad record, unless nothing can tell: there is no
example, and nothing has ever passed. Then ``FRESH_FAILURES`` fresh ones are tried in the life of the task.

Cost beyond the bound of :mod:`pipeline.replicas.bisection`: at most three calls for each batch with a bad record, and
one more try of a record whose tries did not follow each other. If a replica turns out not to work, this is spent once
more, plus two calls for each record that fails alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Protocol

from pipeline.errors import ReplicaDied
from pipeline.events import ModelEvent, OutOfMemory, Retried
from pipeline.outages import Component
from pipeline.record import Fault, Record
from pipeline.replicas.answers import Answer, Costs, Failed, Rows
from pipeline.replicas.bisection import Bisection
from pipeline.replicas.crash_journal import CrashJournal, Note
from pipeline.replicas.pool import LostDevice, Pool
from pipeline.replicas.process import ReplicaProcess, TimedOut, Unbegun
from pipeline.replicas.suspects import SICK, Suspects
from pipeline.replicas.witnesses import Witnesses, fails

payload_of: Callable[[Record], bytes] = attrgetter("data")
"""The payload to send, for a model that does not ask for the records."""

NEW_FROM = 2
"""Records that were acquitted this often are tried alone on fresh replicas."""

LEAST_IN_A_ROW = 2
"""How often a record must fail with no other request in between, if it is tried more than once: a replica that fails
every other call passes one of two.
"""


class Bench(Protocol):
    """Receives the results of tries: :class:`pipeline.replicas.host.ModelHost`."""

    def passed(self, answer: Rows | Costs, tried: Sequence[Record], bisection: Bisection[Record]) -> None:
        """A try was answered: ``answer`` has rows or costs for ``tried``, and faults."""
        ...

    def too_large(self, tried: Sequence[Record], bisection: Bisection[Record]) -> None:
        """A try ran out of memory."""
        ...

    def timed_out(self, tried: Sequence[Record]) -> None:
        """A try of these records timed out."""
        ...

    def give_up(self, record: Record, fault: Fault, attempts: int) -> None:
        """This record is dead: set its outcome."""
        ...

    async def device_works(self, reason: str) -> bool:
        """As :meth:`pipeline.replicas.device_faults.DeviceCheck.works`."""
        ...


class Trial:
    """Settles batches of one kind of request (``op``), several at a time."""

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
        """What to send of a record; :meth:`pipeline.record.Payload.of` if the model asks for the records."""
        self._pool = pool
        self._op = op
        self._retries = retries
        self._bench = bench
        self._on_event = on_event
        self._notes = notes
        self._part = part

    async def settle(self, records: Sequence[Record]) -> None:
        """Try the records until each has passed or has its outcome.

        :raises Fatal: no replica works, or the model asked to stop.
        """
        turn = 0
        while records:
            records = await _Round(self, turn).run(records)
            turn += 1

    def _retried(self, tried: Sequence[Record]) -> None:
        if self._op == "predict":
            self._on_event(Retried(tuple(dict.fromkeys(record.shard_id for record in tried))))


class _Round:
    """One round of tries. ``turn``: how often these records were acquitted before. From turn 1 on they are tried on
    replicas known to work, and judged one by one.
    """

    def __init__(self, trial: Trial, turn: int) -> None:
        self._trial = trial
        self._pool = trial._pool
        self._bench = trial._bench
        self._turn = turn
        self._suspects = Suspects(
            trial._pool,
            trial.witnesses,
            trial._part,
            on_guilty=trial._bench.give_up,
            on_call=partial(trial._retried, ()),
        )
        self._again: list[Record] = []
        self._spreads = False
        self._calls = 0

    async def run(self, records: Sequence[Record]) -> list[Record]:
        """Try the records; return those that must be tried in another round."""
        bisection = Bisection(records, self._trial._retries)
        notes: list[Note] = []
        while not self._suspects.nobody_is_well and (tried := bisection.next()):
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
                self._again += await self._suspects.judge()
        for note in notes:
            await note.end()
        self._again += await self._suspects.judge()
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
        if fails(answer):
            await self._suspects.look_at(link)

    async def _beside_a_witness(self, tried: list[Record], bisection: Bisection[Record], link: ReplicaProcess) -> None:
        """Every record had a fault of its own: find out whether the records, the replica, or one record for all of
        them is the cause.
        """
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
            elif await self._suspects.is_well(link) is False:
                link.discard(SICK)
                self._again += tried
                bisection.passed()
            else:
                self._spreads = self._suspects.asked = True
                bisection.failed()

    async def _alone(self, tried: list[Record], bisection: Bisection[Record]) -> None:
        """Try an item alone, on a replica that gets no other request meanwhile, so that the tries follow each other."""
        wants_new = self._turn >= NEW_FROM and not self._trial.witnesses.nothing_has_passed
        while True:
            with contextlib.suppress(Unbegun):
                async with self._well_one(new=wants_new) as link:
                    is_new = not link.calls
                    answer = await self._in_a_row(link, tried, bisection)
                if answer.op != "worn":
                    break
                wants_new = True
        self._taken(answer, tried, bisection, link, is_new)
        if fails(answer):
            await self._suspects.look_at(link)

    @contextlib.asynccontextmanager
    async def _well_one(self, *, new: bool) -> AsyncIterator[ReplicaProcess]:
        """Hold a replica. For acquitted records: a fresh one, or one that passed a moment ago."""
        while True:
            async with self._pool.held(new=new, well=self._turn > 0) as link:
                if not self._turn or link.is_well or await self._suspects.may_serve(link):
                    yield link
                    return

    async def _in_a_row(self, link: ReplicaProcess, tried: list[Record], bisection: Bisection[Record]) -> Answer:
        """Return the answer that counts: the first that is not a plain failure, or the last one."""
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
            self._suspects.add(tried[0], answer.fault, bisection.too_large(), link, is_new=is_new)
            self._bench.too_large(tried, bisection)
        elif isinstance(answer, Failed):
            self._suspects.add(tried[0], answer.fault, bisection.failed(), link, is_new=is_new)
        elif not fails(answer):
            self._passed(answer, tried, bisection)
        elif len(tried) == 1:
            self._suspects.add(tried[0], answer.faults[0], bisection.failed(), link, is_new=is_new)
        else:
            bisection.failed()

    def _passed(self, answer: Rows | Costs, tried: list[Record], bisection: Bisection[Record]) -> None:
        self._give_up(tried, answer.faults, bisection.attempts)
        good = next((record for index, record in enumerate(tried) if index not in answer.faults), None)
        if good is not None:
            self._trial.witnesses.passed(self._trial.payload_of(good))
        self._bench.passed(answer, tried, bisection)
        bisection.passed()

    def _give_up(self, tried: list[Record], faults: dict[int, Fault], attempts: int) -> None:
        for index, fault in faults.items():
            self._bench.give_up(tried[index], fault, attempts)

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
                self._bench.give_up(tried[0], fault, attempts)
            else:
                bisection.excused()
        else:
            self._suspects.add(tried[0], fault, attempts, None, is_new=True)


def _without_the_last(answer: Rows | Costs) -> Rows | Costs:
    """The answer without its last record, the witness, which has passed."""
    if isinstance(answer, Costs):
        return replace(answer, costs=answer.costs[:-1])
    return replace(answer, batch=answer.batch.slice(0, answer.batch.num_rows - 1))
