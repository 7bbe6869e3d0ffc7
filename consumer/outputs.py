"""The sinks that the settings ask for, joined to AWS and to the model's schema."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from consumer.config import KinesisSinkSettings, ParquetSettings, Settings
from pipeline.dead_letter_limit import Limits
from pipeline.record import Run
from pipeline.sinks import Sink
from pipeline.sinks.dead_letter import DeadLetterSink
from pipeline.sinks.kinesis import KinesisSink
from pipeline.sinks.ledger import STAGED, Ledger
from pipeline.sinks.parquet import ParquetSink
from pipeline.sinks.persist import Persistence, Threads
from pipeline.sinks.refused import RefusedLetters
from pipeline.sinks.schema import TableSchema
from pipeline.sinks.store import ObjectStore, open_store
from pipeline.suspects import Notes

log = logging.getLogger("outputs")

if TYPE_CHECKING:
    import pyarrow as pa

    from consumer.aws import Aws
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
