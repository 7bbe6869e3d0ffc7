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
"""Of the task's memory, for the replicas that are loaded at a time; batches need some, too."""

LEAST_ANSWERS = 3
"""Of each replica in a run: the first one only begins the time."""

TRIED_RECORDS = 64
"""Of these at least one must be one that the model takes."""

Tell = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Tuned:
    """All that was measured, in ``search``; ``plans``: what a batch of a size may have; and what is best."""

    search: Search
    plans: dict[int, BatchPlan]
    profile: Profile


def tune(settings: Settings, records: Sequence[Record], seconds: float, tell: Tell) -> Tuned:
    """Measure for about ``seconds``, the model's first start aside.

    ``tell`` hears what is done, and how many seconds are spent. Raises ``PenstockError`` if nothing can be measured. No
    replica is left when this returns or raises.
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
    """The combinations that the memory has room for. ``ConfigError`` if it has for none."""
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
    """What a batch may have, by size. Where the model has costs, a batch of n may cost n times the usual record."""
    batch = settings.batch
    ladder = sizes(min(batch.max_records, count))
    if not spec.measures:
        return {size: BatchPlan(size) for size in ladder}
    usual = round(median(costs))
    within = [size for size in ladder if not batch.max_cost or size * usual <= batch.max_cost]
    return {size: BatchPlan(batch.max_records, size * usual) for size in within or ladder[:1]}


def _batches(settings: Settings, spec: ModelSpec, plan: BatchPlan, records: Sequence[Record]) -> list[list[Record]]:
    """The records as the batcher would hand them to the model, were there never too few."""
    waiting = batcher(settings, spec, linger_s=0.0)
    waiting.follow(plan)
    waiting.add("tuned", records, 0.0)
    found: list[list[Record]] = []
    while batch := waiting.take(0.0, draining=True):
        found.append(batch)
    return found[:-1] or found  # the last one has what is left over


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
        """Start the model's process. Raises ``UserError`` if the model does not load."""
        self.spec = await self.host.start()

    async def judge_some(self, records: Sequence[Record]) -> None:
        """``UserError`` if the model takes none of them: its time over them would say nothing.

        What it says about them is not told: payloads, and models' words about them, are in dead letters alone.
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
        """With their costs, 1 each where the model has none; without those that cannot be measured."""
        for record in records:
            record.outcome = None
        await self.host.measure(records)
        return [record for record in records if record.outcome is None]

    async def run(self, batches: Sequence[list[Record]], run_s: float, turn: int, usual_cost: float) -> TuningRun:
        """Keep every replica busy for ``run_s``, and until each has answered a few times.

        ``turn``: runs of the same one begin with the same batch. ``Fatal`` if the host cannot go on.
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
        """Or so many altogether that a replica which has none is out of order."""
        heard = [answer.replica for answer in self._answers]
        enough = all(heard.count(number) >= LEAST_ANSWERS for number in range(self.combo.replicas))
        return enough or len(heard) > 10 * LEAST_ANSWERS * self.combo.replicas

    def _event(self, event: ModelEvent) -> None:
        if isinstance(event, Predicted):
            records = event.cost / self._usual_cost
            self._answers.append(TimedCall(time.monotonic(), event.replica, records, event.seconds))

    def anonymous_mib(self) -> int:
        """What its largest process holds for itself alone; 0 where the system does not tell."""
        return max((_anonymous_mib(pid) for pid in self.host.pids), default=0)


class Hosts:
    """Loaded combinations: as many as memory has room for, those that were used last."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: OrderedDict[Combo, Running] = OrderedDict()
        self._most_processes = 0

    def learn_capacity(self, wanted: Sequence[Combo]) -> bool:
        """After the first one is loaded: whether all of them may be at the same time. A GPU is for one at a time."""
        if _gpus(self._settings):
            return False
        held_mib = max((each.anonymous_mib() for each in self._running.values()), default=0)
        memory_mib = task_mib()
        if held_mib and memory_mib:
            self._most_processes = int(memory_mib * MEMORY_SHARE / held_mib)
        return sum(map(_processes, wanted)) <= self._most_processes

    async def get(self, combo: Combo) -> Running:
        """Started, whatever has to make room for it."""
        if combo not in self._running:
            while self._running and sum(map(_processes, (*self._running, combo))) > self._most_processes:
                await self.drop(next(iter(self._running)))
            running = self._running[combo] = Running(self._settings, combo)
            await running.start()
        self._running.move_to_end(combo)
        return self._running[combo]

    async def drop(self, combo: Combo) -> None:
        """Its replicas are gone when this returns."""
        if running := self._running.pop(combo, None):
            await running.host.stop()

    async def close(self) -> None:
        """As :meth:`drop`, of all."""
        for combo in list(self._running):
            await self.drop(combo)


def _processes(combo: Combo) -> int:
    """With the one that measures costs, if the model has any."""
    return combo.replicas + 1


def _anonymous_mib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has ended, or another system
        return 0
    found = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) // 1024 if found else 0
