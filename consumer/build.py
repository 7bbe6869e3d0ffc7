"""Settings in, parts out: the model host's settings, the learner of batch sizes, the sinks."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from consumer.config import drain, profile
from consumer.config.settings import KinesisSinkSettings, ParquetSettings, Settings
from pipeline.batching.batch_size import Pace
from pipeline.batching.batcher import Plan
from pipeline.dead_letters.limit import Limits
from pipeline.machine.memory import share_mib, task_mib
from pipeline.record import Run
from pipeline.replicas.crash_journal import Notes
from pipeline.replicas.host import HostSettings, ModelSpec
from pipeline.replicas.safe_time import SHARE
from pipeline.sinks import Sink
from pipeline.sinks.dead_letters import DeadLetterSink
from pipeline.sinks.kinesis import KinesisSink
from pipeline.sinks.parquet import ParquetSink
from pipeline.sinks.refused import RefusedLetters
from pipeline.stores import open_store
from pipeline.stores.base import ObjectStore
from pipeline.stores.retry import Persistence, Threads
from pipeline.table.names import STAGED
from pipeline.table.schema import TableSchema
from pipeline.table.staged_letters import Ledger

log = logging.getLogger("outputs")

if TYPE_CHECKING:
    import pyarrow as pa

    from consumer.aws.clients import Aws
    from pipeline.metrics import Metrics

SUSPECTS = ".suspects"
"""Put behind the dead letters' URL."""


def open_notes(settings: Settings, aws: Aws, metrics: Metrics, switches: Callable[[str], Awaitable[int]]) -> Notes:
    """Where tries are noted that may take the task down: beside the dead letters that come of it."""
    part = metrics.troubles.part("suspects", settings.dead_letter.patience_s)
    store = _store(f"{settings.dead_letter.url.rstrip('/')}{SUSPECTS}", aws)
    return Notes(store, Persistence(Threads("suspects"), part), switches=switches)


def limits_of(settings: Settings) -> Limits:
    """Of dead letters, and of the rows that a sink cannot carry."""
    letters = settings.dead_letter
    return Limits(letters.max_consecutive, letters.max_ratio, letters.window, letters.limit_on)


def open_sinks(settings: Settings, aws: Aws, rows: pa.Schema, metrics: Metrics) -> list[Sink]:
    """One sink for each of ``[[sink]]``, in their order.

    The first Parquet sink is the ledger of the dead letters; without one they get a sink of their own.
    """
    schema = TableSchema(rows, settings.stream.name, settings.model.version, settings.model.carry)
    limits = limits_of(settings)
    if any(isinstance(entry, ParquetSettings) for entry in settings.sink):
        for line in schema.warnings:
            log.warning("%s", line)
    dead_letters = _store(settings.dead_letter.url, aws)
    sinks: list[Sink] = []
    ledger: Ledger | None = open_ledger(settings.dead_letter.url, aws)
    for entry in settings.sink:
        if isinstance(entry, KinesisSinkSettings):
            sinks.append(_kinesis(entry, aws, schema, dead_letters, metrics, limits))
        else:
            sinks.append(_parquet(entry, aws, schema, ledger, metrics))
            ledger = None
    if ledger is not None:
        sinks.append(
            DeadLetterSink(dead_letters, schema, troubles=metrics.troubles, patience_s=settings.dead_letter.patience_s)
        )
    return sinks


def _parquet(
    entry: ParquetSettings, aws: Aws, schema: TableSchema, ledger: Ledger | None, metrics: Metrics
) -> ParquetSink:
    name = f"parquet:{entry.url}"
    return ParquetSink(
        name=name,
        store=_store(entry.url, aws),
        flush_interval_s=entry.flush_interval_s,
        flush_mib=entry.flush_mib,
        schema=schema,
        ledger=ledger,
        events=metrics.of_sink(name),
        troubles=metrics.troubles,
        patience_s=entry.patience_s,
    )


def _kinesis(
    entry: KinesisSinkSettings,
    aws: Aws,
    schema: TableSchema,
    dead_letters: ObjectStore,
    metrics: Metrics,
    limits: Limits,
) -> KinesisSink:
    def table(run: Run) -> pa.Table:
        return schema.table(run.records)

    name = f"kinesis:{entry.stream}"
    return KinesisSink(
        lambda: aws.client("kinesis"),
        entry.stream,
        table,
        events=metrics.of_sink(name),
        troubles=metrics.troubles,
        letters=RefusedLetters(dead_letters, schema, name),
        limits=limits,
        patience_s=entry.patience_s,
    )


def open_ledger(url: str, aws: Aws) -> Ledger:
    """The dead letters of a table, at this URL and beside it."""
    return Ledger(_store(url, aws), _store(f"{url.rstrip('/')}{STAGED}", aws))


def _store(url: str, aws: Aws) -> ObjectStore:
    return open_store(url, lambda: aws.client("s3"))


def model_settings(settings: Settings) -> HostSettings:
    """What the model host is told: ``auto`` resolved to this machine, the configuration's folder to import from."""
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
        carry=model.carry,
        missing=model.missing,
        not_finite=model.not_finite,
        options=model.options,
        search_path=(str(settings.folder),),
        memory_mib=_memory_mib(settings, replicas),
        patience_s=model.patience_s,
        device=model.device,
        aws_credentials=model.aws_credentials,
        stream=settings.stream.name,
    )


def learner(settings: Settings, spec: ModelSpec) -> Pace | None:
    """What finds out how large batches should be, so that a drain fits and none times out.

    None: they are as large as they may be.
    """
    batch = settings.batch
    if not batch.learn:
        return None
    longest_s = min(drain.learnt_batch_s(settings), SHARE * settings.model.timeout_s)
    measured = profile.find(settings).profile
    return Pace(
        max_records=batch.max_records,
        max_cost=batch.max_cost,
        measures=spec.measures,
        target_s=min(longest_s, batch.target_latency_ms / 1000 or longest_s),
        example_s=spec.example_s,
        start=Plan(*measured.batch) if measured else None,
    )


def _memory_mib(settings: Settings, replicas: int) -> int:
    if settings.model.memory_mib != "auto":
        return settings.model.memory_mib
    heap_mib, window_mib = settings.kcl.java_heap_mib, settings.window.mib
    return share_mib(task_mib(), heap_mib=heap_mib, window_mib=window_mib, replicas=replicas)
