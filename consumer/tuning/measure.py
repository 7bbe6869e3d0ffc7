"""Measures replicas, threads and batches on this machine, with the user's model in real replicas."""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from consumer.build import batcher, model_settings
from consumer.config.profile import Profile, circumstances
from consumer.config.settings import Settings
from consumer.tuning.search import Combo, Search, TimedCall, TuningRun, best, combos, run_of, sizes
from pipeline import background
from pipeline.batching.batcher import BatchPlan
from pipeline.errors import ConfigError, Fatal, PenstockError, UserError, counted
from pipeline.events import ModelEvent, Predicted
from pipeline.machine import cores, gpus
from pipeline.machine.memory import task_mib
from pipeline.record import Dead, Record
from pipeline.replicas.host import ModelHost, ModelSpec

MEMORY_SHARE = 0.6
"""Share of the task's memory for the replicas that are loaded at the same time; batches need the rest."""

LEAST_ANSWERS = 3
"""Minimum number of answers of each replica in a run. The time of a replica starts with its first answer."""

TRIED_RECORDS = 64
"""The model must accept at least one of this many records."""

Tell = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Tuned:
    """The result. ``search``: every measurement. ``plans``: the limits of a batch, by size. ``profile``:
    the best cell."""

    search: Search
    plans: dict[int, BatchPlan]
    profile: Profile


def tune(settings: Settings, records: Sequence[Record], seconds: float, tell: Tell) -> Tuned:
    """Measure for about ``seconds``, without the time of the model's first start.

    ``tell`` is called with the current step, and the seconds since the start. Every replica has ended when this returns
    or raises. :raises PenstockError: nothing can be measured.
    """
    return asyncio.run(_tune(settings, records, seconds, tell))


async def _tune(settings: Settings, records: Sequence[Record], seconds: float, tell: Tell) -> Tuned:
    wanted = _fitting(settings)
    tell(f"loading the model: {wanted[0]}", 0.0)
    hosts = Hosts(settings)
    try:
        first = await hosts.get(wanted[0])
        await first.judge_some(records)
        records = await first.measured(records)
        costs = [record.cost for record in records]
        plans = _plans(settings, first.spec, costs, len(records))
        together = hosts.learn_capacity(wanted)
        target_s = settings.batch.target_latency_ms / 1000
        search = Search(wanted, list(plans), budget_s=seconds, target_s=target_s, together=together)
        batches = {size: _batches(settings, first.spec, plan, records) for size, plan in plans.items()}
        usual_cost = sum(costs) / len(costs)
        failure: PenstockError | None = None
        began_s = time.monotonic()
        while cell := search.next(spent_s := time.monotonic() - began_s):
            tell(f"{cell.combo}, batches of {cell.size}", spent_s)
            try:
                host = await hosts.get(cell.combo)
                search.told(cell, await host.run(batches[cell.size], search.run_s, search.round, usual_cost))
            except PenstockError as error:
                failure = error
                await hosts.drop(cell.combo)
                search.failed(cell.combo, str(error))
    finally:
        await hosts.close()
    if not search.measured:
        raise failure or UserError(f"nothing was measured within {seconds:g} s. Raise --seconds")
    return Tuned(search, plans, _profile(settings, search, plans, first.spec, target_s))


def _profile(
    settings: Settings, search: Search, plans: dict[int, BatchPlan], spec: ModelSpec, target_s: float
) -> Profile:
    chosen = best(search.measured, target_s)
    return Profile(
        replicas=chosen.cell.combo.replicas,
        threads=chosen.cell.combo.threads,
        records=chosen.cell.size,
        cost=plans[chosen.cell.size].cost if spec.measures else 0,
        records_per_s=round(chosen.records_per_s, 2),
        call_ms=round(chosen.call_s * 1000, 3),
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        measured_for=circumstances(settings),
    )


def _fitting(settings: Settings) -> list[Combo]:
    """The combinations that fit into memory. :raises ConfigError: none fits."""
    model = settings.model
    replicas = None if model.replicas == "auto" else model.replicas
    threads = None if model.threads == "auto" else model.threads
    found: list[Combo] = []
    wrong: ConfigError | None = None
    for combo in combos(cores.available(), replicas, threads, _gpus(settings)):
        try:
            model_settings(_with(settings, combo))
        except ConfigError as error:
            wrong = wrong or error
        else:
            found.append(combo)
    if wrong and not found:
        raise wrong
    return found


def _gpus(settings: Settings) -> int:
    return gpus.wanted(settings.model.device, gpus.count())


def _with(settings: Settings, combo: Combo) -> Settings:
    counts = {"replicas": combo.replicas, "threads": combo.threads}
    return settings.model_copy(update={"model": settings.model.model_copy(update=counts)})


# -- batches


def _plans(settings: Settings, spec: ModelSpec, costs: Sequence[int], count: int) -> dict[int, BatchPlan]:
    """The limits of a batch, by size. If the model has costs, a batch of n may cost n times the usual record."""
    batch = settings.batch
    ladder = sizes(min(batch.max_records, count))
    if not spec.measures:
        return {size: BatchPlan(size) for size in ladder}
    usual = round(median(costs))
    within = [size for size in ladder if not batch.max_cost or size * usual <= batch.max_cost]
    return {size: BatchPlan(batch.max_records, size * usual) for size in within or ladder[:1]}


def _batches(settings: Settings, spec: ModelSpec, plan: BatchPlan, records: Sequence[Record]) -> list[list[Record]]:
    """The records in the batches that the batcher forms while there are always enough records."""
    waiting = batcher(settings, spec, linger_s=0.0)
    waiting.follow(plan)
    waiting.add("tuned", records, 0.0)
    found: list[list[Record]] = []
    while batch := waiting.take(0.0, draining=True):
        found.append(batch)
    return found[:-1] or found  # the last batch is not full


# -- hosts


class Running:
    """A started host of one combination."""

    def __init__(self, settings: Settings, combo: Combo) -> None:
        self.combo = combo
        self.host = ModelHost(model_settings(_with(settings, combo)), on_event=self._event)
        self.spec: ModelSpec
        self._answers: list[TimedCall] = []
        self._usual_cost = 1.0

    async def start(self) -> None:
        """Start the model's processes. :raises UserError: the model does not load."""
        self.spec = await self.host.start()

    async def judge_some(self, records: Sequence[Record]) -> None:
        """Check that the model accepts a record; its time for records that it refuses would mean nothing.

        The message does not quote the model: payloads, and text that models produce about them, are only in dead
        letters.
        :raises UserError: the model accepts none of the first records.
        """
        some = records[:TRIED_RECORDS]
        for record in some:
            await self.host.settle([record])
            if not isinstance(record.outcome, Dead):
                return
        kinds = sorted({record.outcome.kind for record in some if isinstance(record.outcome, Dead)})
        raise UserError(
            f"the model accepts none of {counted(len(some), 'record')} ({', '.join(kinds)}). "
            "Use other records with --records, or run the model on one of them to see its error"
        )

    async def measured(self, records: Sequence[Record]) -> list[Record]:
        """Set the records' costs (1 if the model has none), and return those that can be measured."""
        for record in records:
            record.outcome = None
        await self.host.measure(records)
        return [record for record in records if record.outcome is None]

    async def run(self, batches: Sequence[list[Record]], run_s: float, turn: int, usual_cost: float) -> TuningRun:
        """Keep every replica busy for ``run_s``, and until each has answered a few times.

        Runs with the same ``turn`` begin with the same batch. :raises Fatal: the host cannot go on.
        """
        self._answers, self._usual_cost = [], usual_cost
        place = (turn - 1) * 7919
        began_s = time.monotonic()
        answers: list[TimedCall] = []

        async def feed() -> None:
            nonlocal place, answers
            while not answers:
                place += 1
                await self.host.settle(batches[place % len(batches)])
                if not answers and time.monotonic() - began_s >= run_s and self._answered_enough():
                    answers = list(self._answers)

        await background.all_of(*[feed] * self.host.slots)
        if not answers:
            raise Fatal("no predict call returned results")
        return run_of(answers, began_s)

    def _answered_enough(self) -> bool:
        """Whether each replica has enough answers, or all together have so many that one without answers is broken."""
        heard = [answer.replica for answer in self._answers]
        enough = all(heard.count(number) >= LEAST_ANSWERS for number in range(self.combo.replicas))
        return enough or len(heard) > 10 * LEAST_ANSWERS * self.combo.replicas

    def _event(self, event: ModelEvent) -> None:
        if isinstance(event, Predicted):
            records = event.cost / self._usual_cost
            self._answers.append(TimedCall(time.monotonic(), event.replica, records, event.seconds))

    def anonymous_mib(self) -> int:
        """Private memory of the largest replica in MiB; 0 if the system does not report it."""
        return max((_anonymous_mib(pid) for pid in self.host.pids), default=0)


class Hosts:
    """The loaded combinations: those that were used last, as many as fit into memory."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: OrderedDict[Combo, Running] = OrderedDict()
        self._most_processes = 0

    def learn_capacity(self, wanted: Sequence[Combo]) -> bool:
        """Return whether all combinations may be loaded at the same time, by the memory of the first one;
        never on a GPU."""
        if _gpus(self._settings):
            return False
        held_mib = max((each.anonymous_mib() for each in self._running.values()), default=0)
        memory_mib = task_mib()
        if held_mib and memory_mib:
            self._most_processes = int(memory_mib * MEMORY_SHARE / held_mib)
        return sum(map(_processes, wanted)) <= self._most_processes

    async def get(self, combo: Combo) -> Running:
        """Return the combination's host, started. Others are stopped if it needs their memory."""
        if combo not in self._running:
            while self._running and sum(map(_processes, (*self._running, combo))) > self._most_processes:
                await self.drop(next(iter(self._running)))
            running = self._running[combo] = Running(self._settings, combo)
            await running.start()
        self._running.move_to_end(combo)
        return self._running[combo]

    async def drop(self, combo: Combo) -> None:
        """Stop the combination's host; its replicas have ended when this returns."""
        if running := self._running.pop(combo, None):
            await running.host.stop()

    async def close(self) -> None:
        """Stop all hosts."""
        for combo in list(self._running):
            await self.drop(combo)


def _processes(combo: Combo) -> int:
    """The replicas, and one process that measures costs, which a model may need."""
    return combo.replicas + 1


def _anonymous_mib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # the process has ended, or another system
        return 0
    found = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) // 1024 if found else 0
