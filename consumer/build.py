"""Builds the parts of a task from its settings. This is the only place where a task's parts are connected.

The application, ``penstock tune``, the benchmarks and the tests' simulation build their parts here, each with its own
dependencies (:class:`Outside`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from consumer.aws.hash_ranges import HashRanges
from consumer.config import drain, profile
from consumer.config.settings import Settings
from consumer.config.sink_settings import KinesisSinkSettings, ParquetSettings
from pipeline import background
from pipeline.batching.batch_size import BatchSizeController
from pipeline.batching.batcher import Batcher, BatchPlan
from pipeline.dead_letters.limit import Limits
from pipeline.dead_letters.log import DeadLetterLog
from pipeline.events import ModelEvent, Predicted
from pipeline.flow.bounds import Bounds
from pipeline.flow.misplaced import Misplaced
from pipeline.machine.memory import share_mib, task_mib
from pipeline.replicas.crash_journal import CrashJournal
from pipeline.replicas.host import HostSettings, ModelHost, ModelSpec
from pipeline.replicas.journaled_host import JournaledHost
from pipeline.replicas.process import DEPTH, ReplicaProcess
from pipeline.replicas.safe_time import SHARE
from pipeline.sinks.chain_sink import Around
from pipeline.sinks.dead_letters import DEAD_LETTER, DeadLetterSink
from pipeline.sinks.kinesis import KinesisSink
from pipeline.sinks.parquet import ParquetSink
from pipeline.sinks.refused import RefusedLetters
from pipeline.stage import Stage
from pipeline.stores import open_store
from pipeline.stores.calls import SureCalls, Threads
from pipeline.table.names import SUSPECTS
from pipeline.table.schema import TableSchema
from pipeline.table.staged_letters import Ledger

if TYPE_CHECKING:
    import pyarrow as pa

    from consumer.aws.clients import Aws
    from pipeline.metrics import Metrics
    from pipeline.model_process.assignment import Assignment
    from pipeline.record import Run
    from pipeline.sinks import Sink
    from pipeline.stores.base import ObjectStore

log = logging.getLogger("build")

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Outside:
    """The external dependencies of a task's parts.

    ``client`` makes a boto3 client of a service, ``store`` opens the store at a URL, ``link`` starts a replica.
    ``clock`` never goes back; ``now`` is the time of day. ``thread`` runs calls that may never return.
    """

    client: Callable[[str], Any]
    store: Callable[[str], ObjectStore]
    link: Callable[[Assignment], ReplicaProcess] = ReplicaProcess
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    thread: background.StartThread = background.thread

    @classmethod
    def of(cls, aws: Aws) -> Outside:
        """The real ones: AWS, folders, this machine's processes and clocks."""
        return cls(aws.client, lambda url: open_store(url, lambda: aws.client("s3")))


class Parts:
    """The parts of one task, in the order in which they are made: notes, host, sinks, stage."""

    def __init__(self, settings: Settings, outside: Outside, metrics: Metrics) -> None:
        self.settings = settings
        self.outside = outside
        self.metrics = metrics
        self.batch_sizes: BatchSizeController | None = None
        """The batch sizer; set with the stage, and None if batches are as large as allowed."""

    def notes(self, switches: Callable[[str], Awaitable[int]]) -> CrashJournal:
        """The journal of attempts that may end the task: beside the dead letters."""
        letters = self.settings.dead_letter
        part = self.metrics.outages.part("suspects", letters.give_up_after_s)
        store = self.outside.store(f"{letters.url.rstrip('/')}{SUSPECTS}")
        surely = SureCalls(Threads("suspects"), part, sleep=self.outside.sleep)
        return CrashJournal(store, surely, switches=switches, today=lambda: self.outside.now().date())

    def host(self, notes: CrashJournal | None, *, kind: type[ModelHost] = ModelHost) -> ModelHost:
        """The model's processes, not started. ``kind``: a host that a benchmark reads more from."""
        return kind(
            model_settings(self.settings),
            on_event=self._note,
            link=self.outside.link,
            notes=notes,
            outages=self.metrics.outages,
        )

    def sinks(self, rows: pa.Schema) -> list[Sink]:
        """Return one sink for each of ``[[sink]]``, in their order. ``rows``: what the model returns for an item.

        The first Parquet sink records which dead letters exist; without one they get a separate sink.
        """
        settings = self.settings
        schema = TableSchema(rows, settings.stream.name, settings.model.version, settings.model.passthrough)
        if any(isinstance(entry, ParquetSettings) for entry in settings.sink):
            for line in schema.warnings:
                log.warning("%s", line)
        sinks: list[Sink] = []
        ledger: Ledger | None = Ledger.at(settings.dead_letter.url, self.outside.store)
        for entry in settings.sink:
            if isinstance(entry, KinesisSinkSettings):
                sinks.append(self._kinesis(entry, schema))
            else:
                sinks.append(self._parquet(entry, schema, ledger))
                ledger = None
        if ledger is not None:
            sinks.append(self._dead_letters(schema))
        return sinks

    def stage(
        self, host: ModelHost, notes: CrashJournal, spec: ModelSpec, sinks: list[Sink], *, kind: type[Stage] = Stage
    ) -> Stage:
        """The one stage of the task. ``kind``: a stage that a test has broken, or that a benchmark reads more from."""
        settings, metrics = self.settings, self.metrics
        judge = JournaledHost(host, notes, retries=settings.model.retries, on_event=metrics.model.note)
        self.batch_sizes = learner(settings, spec)
        metrics.replica_time.account_for(judge.slots // DEPTH, self.batch_sizes)
        outside = self.outside
        kinesis = partial(outside.client, "kinesis")
        ranges = HashRanges(kinesis, settings.stream.name, clock=outside.clock, thread=outside.thread)
        return kind(
            judge,
            batcher(settings, spec),
            sinks,
            Bounds(settings.in_flight.records_per_shard, int(settings.in_flight.total_mib * MIB)),
            metrics,
            batch_sizes=self.batch_sizes,
            limits=limits_of(settings),
            letters=DeadLetterLog(settings.dead_letter.url),
            misplaced=Misplaced(metrics.records, ranges.of),
            clock=self.outside.clock,
        )

    def _note(self, event: ModelEvent) -> None:
        self.metrics.model.note(event)
        if self.batch_sizes is not None and isinstance(event, Predicted):
            self.batch_sizes.learn(event)

    def _parquet(self, entry: ParquetSettings, schema: TableSchema, ledger: Ledger | None) -> ParquetSink:
        name = f"parquet:{entry.url}"
        return ParquetSink(
            name=name,
            store=self.outside.store(entry.url),
            flush_interval_s=entry.flush_interval_s,
            flush_mib=entry.flush_mib,
            schema=schema,
            ledger=ledger,
            **self._around(name, entry.give_up_after_s),
        )

    def _kinesis(self, entry: KinesisSinkSettings, schema: TableSchema) -> KinesisSink:
        def table(run: Run) -> pa.Table:
            return schema.table(run.records)

        name = f"kinesis:{entry.stream}"
        return KinesisSink(
            lambda: self.outside.client("kinesis"),
            entry.stream,
            table,
            events=self.metrics.sinks.of(name),
            outages=self.metrics.outages,
            letters=RefusedLetters(self.outside.store(self.settings.dead_letter.url), schema, name),
            limits=limits_of(self.settings),
            give_up_after_s=entry.give_up_after_s,
            sleep=self.outside.sleep,
        )

    def _dead_letters(self, schema: TableSchema) -> DeadLetterSink:
        letters = self.settings.dead_letter
        return DeadLetterSink(
            self.outside.store(letters.url), schema, **self._around(DEAD_LETTER, letters.give_up_after_s)
        )

    def _around(self, name: str, give_up_after_s: float) -> Around:
        """The external dependencies of the sink with this name."""
        return Around(
            events=self.metrics.sinks.of(name),
            outages=self.metrics.outages,
            give_up_after_s=give_up_after_s,
            clock=self.outside.clock,
            now=self.outside.now,
            sleep=self.outside.sleep,
        )


def batcher(settings: Settings, spec: ModelSpec, *, linger_s: float | None = None) -> Batcher:
    """Micro-batches within the settings' bounds. ``linger_s``: instead of the settings'."""
    batch = settings.batch
    return Batcher(
        max_records=batch.max_records,
        max_cost=batch.max_cost,
        linger_s=batch.linger_ms / 1000 if linger_s is None else linger_s,
        bucket_records=batch.bucket_records if spec.pads and spec.measures else 0,
    )


def limits_of(settings: Settings) -> Limits:
    """Return the limits of dead letters at which a task ends, from ``[dead_letter]``."""
    letters = settings.dead_letter
    return Limits(letters.max_consecutive, letters.max_ratio, letters.window, letters.limit_on)


def waits_of(settings: Settings) -> list[str]:
    """Return a line for each table that says when a reader sees records that were put on the stream."""
    return [
        f"{entry.url}: a row is readable once its file is written, at most {entry.flush_interval_s:g} s after the row "
        f"(sink.{place}.flush_interval_s)"
        for place, entry in enumerate(settings.sink)
        if isinstance(entry, ParquetSettings)
    ]


def model_settings(settings: Settings) -> HostSettings:
    """The settings of the model host: ``auto`` resolved to this machine, and the configuration's folder to import
    from."""
    model = settings.model
    replicas, threads = profile.counts(settings)
    return HostSettings(
        factory=model.factory,
        version=model.version,
        replicas=replicas,
        threads=threads,
        timeout_s=model.timeout_s,
        retries=model.retries,
        start_timeout_s=model.start_timeout_s,
        passthrough=model.passthrough,
        missing=model.missing,
        not_finite=model.not_finite,
        options=model.options,
        search_path=(str(settings.folder),),
        memory_mib=_memory_mib(settings, replicas),
        give_up_after_s=model.give_up_after_s,
        device=model.device,
        aws_credentials=model.aws_credentials,
        stream=settings.stream.name,
    )


def learner(settings: Settings, spec: ModelSpec) -> BatchSizeController | None:
    """The learner of the best batch size, so that a drain fits and no batch times out. None: batches are as large as
    allowed."""
    batch = settings.batch
    if not batch.adaptive:
        return None
    longest_s = min(drain.learnt_batch_s(settings), SHARE * settings.model.timeout_s)
    measured = profile.find(settings).profile
    return BatchSizeController(
        max_records=batch.max_records,
        max_cost=batch.max_cost,
        measures=spec.measures,
        target_s=min(longest_s, batch.target_latency_ms / 1000 or longest_s),
        example_s=spec.example_s,
        start=BatchPlan(*measured.batch) if measured else None,
    )


def _memory_mib(settings: Settings, replicas: int) -> int:
    if settings.model.memory_mib != "auto":
        return settings.model.memory_mib
    heap_mib, in_flight_mib = settings.kcl.java_heap_mib, settings.in_flight.total_mib
    return share_mib(task_mib(), heap_mib=heap_mib, in_flight_mib=in_flight_mib, replicas=replicas)
