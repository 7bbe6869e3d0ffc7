"""The model host: takes records and sets an outcome on each. The only module that starts replicas.

Whatever a record does to the model (an exception, a NaN, a hang, a segfault) costs that record; other records only lose
time. :mod:`pipeline.replicas.bisection` decides what to try, and :mod:`pipeline.replicas.pool` tries it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import repeat

import pyarrow as pa

from pipeline.events import DeadLettered, ModelEvent, Predicted, SafeCostLearned
from pipeline.machine.cores import resolve
from pipeline.model_process.assignment import Assignment, LoadSettings
from pipeline.outages import Outages
from pipeline.record import Dead, Enriched, Fault, Payload, Record, cost_of
from pipeline.replicas import answers
from pipeline.replicas.bisection import Bisection
from pipeline.replicas.crash_journal import CrashJournal
from pipeline.replicas.device_faults import DeviceCheck
from pipeline.replicas.pool import Pool
from pipeline.replicas.process import ReplicaProcess
from pipeline.replicas.safe_cost import SafeCost
from pipeline.replicas.safe_time import SafeTime
from pipeline.replicas.trial import Trial

log = logging.getLogger("host")

_ENRICHED: Callable[[tuple[pa.RecordBatch, int]], Enriched] = partial(tuple.__new__, Enriched)
"""Makes an ``Enriched`` of a table and a row; the named tuple's own constructor is a Python call for every record."""

__all__ = ["HostSettings", "ModelHost", "ModelSpec", "resolve"]

MEASURE_RECORDS = 512
MEASURE_BYTES = 4 * 1024 * 1024
"""Bytes measured in one request: small enough that no shard waits long for another's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings(LoadSettings):
    """``[model]`` with every ``auto`` resolved. ``give_up_after_s``: how long replicas may fail to start again."""

    replicas: int
    timeout_s: float
    retries: int
    start_timeout_s: float
    give_up_after_s: float


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What the model is. ``row_schema``: the carried payload fields, then the output columns.

    ``example_s``: seconds of a warm call with the model's example; None if it has none.
    """

    row_schema: pa.Schema
    measures: bool
    pads: bool
    example_s: float | None = None


class ModelHost:
    """``failed`` resolves with the reason when the host cannot go on; :meth:`settle` and :meth:`measure` raise it.

    ``link`` makes a replica; :class:`pipeline.testing.FakeReplica` is one without a process. ``notes``: where a batch
    that has killed its replica is noted, before its records are tried one by one.
    """

    def __init__(
        self,
        settings: HostSettings,
        *,
        on_event: Callable[[ModelEvent], None] | None = None,
        link: Callable[[Assignment], ReplicaProcess] = ReplicaProcess,
        notes: CrashJournal | None = None,
        outages: Outages | None = None,
    ) -> None:
        self._settings = settings
        self._outages = outages or Outages()
        self._device = DeviceCheck(self._outages.part("model", settings.give_up_after_s))
        self._safe_cost = SafeCost()
        self._safe_time = SafeTime(settings.timeout_s)
        self._notes = notes
        self._link = link
        self._on_event = on_event or _ignore
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._predictors = self._pool("predict", settings.replicas)
        self._measurer = self._pool("measure", 1)
        self._predicting = self._trial(self._predictors, "predict")
        self._measuring = self._trial(self._measurer, "measure")
        self._spec: ModelSpec | None = None

    async def start(self) -> ModelSpec:
        """Start every replica. Returns once each has loaded the model and predicted its example, if there is one.

        :raises ModelError: the model cannot be used; one line says why.
        :raises Fatal: a replica died while it loaded. Nothing is left running after an error.
        """
        try:
            ready = await self._predictors.start()
            if ready.measures:
                await self._measurer.start()
        except BaseException:
            await self.stop()
            raise
        if ready.wants_records:
            self._predicting.payload_of = Payload.of
        self._predicting.witnesses.has_example = ready.example_s is not None
        self._spec = ModelSpec(ready.schema, ready.measures, ready.pads, ready.example_s)
        return self._spec

    async def stop(self) -> None:
        """Stop every replica and wait for its end: about a second, plus 2 s if the model has a ``close``. May be
        called at any time.
        """
        await asyncio.gather(self._predictors.stop(), self._measurer.stop())

    @property
    def slots(self) -> int:
        """How many calls of :meth:`settle` may usefully run at once."""
        return self._predictors.slots

    @property
    def measures(self) -> bool:
        """Whether the model has its own ``cost``, so that :meth:`measure` is needed."""
        return self._spec is not None and self._spec.measures

    @property
    def pids(self) -> list[int]:
        """Process ids of the replicas that serve; the one that measures is the last."""
        return self._predictors.pids + self._measurer.pids

    @property
    def replicas_alive(self) -> int:
        """How many replicas that predict serve now."""
        return len(self._predictors.pids)

    @property
    def safe_cost(self) -> int:
        """The most that a batch may cost (:func:`pipeline.record.cost_of`) to fit into memory and ``timeout_s``; 0:
        no limit is known.
        """
        memory, time = self._safe_cost.limit, self._safe_time.limit
        return min(memory or time, time or memory)

    def expect(self, max_records: int) -> None:
        """Choose first batches that are in time if each record takes as long as the model's example.

        Only for models without ``cost`` and with an example; otherwise nothing changes.
        """
        if self._spec is not None and not self._spec.measures and self._spec.example_s:
            self._safe_time.expect(self._spec.example_s, max_records)
            self._tell(0)

    async def measure(self, records: Sequence[Record]) -> None:
        """Set ``cost`` of every record. A record that cannot be decoded or measured gets the outcome ``Dead``
        instead.
        """
        if not self.measures:
            return
        for chunk in _chunks(records):
            await self._measuring.settle(chunk)

    async def settle(self, records: Sequence[Record]) -> None:
        """Set ``outcome`` of every record: ``Enriched``, or ``Dead`` after the configured retries.

        Records of finished parts of the batch have theirs before this returns.

        :raises Fatal: the host cannot go on.
        """
        await self._predicting.settle(records)

    # -- trying

    def passed(
        self, answer: answers.Rows | answers.Costs, tried: Sequence[Record], bisection: Bisection[Record]
    ) -> None:
        """As :meth:`pipeline.replicas.trial.Bench.passed`."""
        if isinstance(answer, answers.Rows):
            self._enrich(answer, tried)
            self._learn(tried, bisection, fits=True)
            self._in_time(tried, answer.seconds)
        else:
            _set_costs(answer, tried)

    def too_large(self, tried: Sequence[Record], bisection: Bisection[Record]) -> None:
        """As :meth:`pipeline.replicas.trial.Bench.too_large`: learn a lower cost for batches."""
        self._learn(tried, bisection, fits=False)

    def timed_out(self, tried: Sequence[Record]) -> None:
        """As :meth:`pipeline.replicas.trial.Bench.timed_out`: learn a lower cost for batches."""
        before = self.safe_cost
        self._safe_time.timed_out(len(tried), self._costs(tried)[1])
        self._tell(before)

    def give_up(self, record: Record, fault: Fault, attempts: int) -> None:
        """As :meth:`pipeline.replicas.trial.Bench.give_up`: settle the record as dead."""
        record.settle(Dead(record.data, fault.reason, fault.traceback, attempts, fault.kind, where=fault.where))
        self._on_event(DeadLettered(fault.kind))

    async def device_works(self, reason: str) -> bool:
        """As :meth:`pipeline.replicas.trial.Bench.device_works`."""
        return await self._device.works(self._predictors, reason)

    def _trial(self, pool: Pool, op: str) -> Trial:
        part = self._outages.part("model", self._settings.give_up_after_s)
        return Trial(pool, op, self._settings.retries, self, on_event=self._on_event, notes=self._notes, part=part)

    def _learn(self, tried: Sequence[Record], bisection: Bisection[Record], *, fits: bool) -> None:
        before = self.safe_cost
        if fits and not self._safe_cost.limit:
            return
        cost = cost_of(tried, pads=self._spec is not None and self._spec.pads)
        if fits:
            self._safe_cost.passed(len(tried), cost, after=bisection.was_too_large)
        else:
            self._safe_cost.ran_out(len(tried), cost)
        self._tell(before)

    def _in_time(self, tried: Sequence[Record], seconds: float) -> None:
        if self._safe_time.limit:
            before = self.safe_cost
            self._safe_time.passed(len(tried), self._costs(tried)[1], seconds)
            self._tell(before)

    def _tell(self, before: int) -> None:
        if self.safe_cost != before:
            if self.safe_cost:
                said = "the cost of a batch is now limited to %d, so that batches fit into memory and model.timeout_s"
                log.info(said, self.safe_cost)
            else:
                log.info("the cost of a batch is no longer limited")
            self._on_event(SafeCostLearned(self.safe_cost))

    def _enrich(self, answer: answers.Rows, tried: Sequence[Record]) -> None:
        table, faults = answer.batch, answer.faults
        good = [record for index, record in enumerate(tried) if index not in faults] if faults else tried
        places = zip(repeat(table, len(table)), range(len(table)), strict=True)
        for record, outcome in zip(good, map(_ENRICHED, places), strict=True):
            record.settle(outcome)
        if good:
            self._device.passed(self._predicting.payload_of(good[-1]))
        cost, padded = self._costs(tried)
        self._on_event(Predicted(len(tried), answer.seconds, answer.replica, cost, padded))

    def _costs(self, tried: Sequence[Record]) -> tuple[int, int]:
        """The sum of the records' costs, and the cost of the batch; each record costs 1 if nothing is measured."""
        if self._spec is None or not self._spec.measures:
            return len(tried), len(tried)
        return cost_of(tried, pads=False), cost_of(tried, pads=self._spec.pads)

    # -- replicas

    def _pool(self, role: str, count: int) -> Pool:
        settings = self._settings
        told = {each.name: getattr(settings, each.name) for each in fields(LoadSettings)}
        if role != "predict":
            told["threads"] = 1
        assignments = [Assignment(role=role, number=number, **told) for number in range(count)]
        return Pool(
            assignments,
            timeout_s=settings.timeout_s,
            start_timeout_s=settings.start_timeout_s,
            give_up_after_s=settings.give_up_after_s,
            outages=self._outages,
            failed=self.failed,
            on_event=self._on_event,
            link=self._link,
        )


def _set_costs(answer: answers.Costs, tried: Sequence[Record]) -> None:
    for record, cost in zip(tried, answer.costs, strict=True):
        record.cost = cost


def _chunks(records: Sequence[Record]) -> Iterator[list[Record]]:
    chunk: list[Record] = []
    size = 0
    for record in records:
        if chunk and (len(chunk) == MEASURE_RECORDS or size + len(record.data) > MEASURE_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(record)
        size += len(record.data)
    if chunk:
        yield chunk


def _ignore(event: ModelEvent) -> None:
    return
