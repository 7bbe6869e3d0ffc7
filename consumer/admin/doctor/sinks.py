"""Checks of where rows and dead letters go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from consumer.admin.doctor.findings import Finding, green, red, yellow
from consumer.admin.doctor.subject import Subject
from consumer.aws.cli_commands import aws_command
from consumer.config.sink_settings import KinesisSinkSettings, ParquetSettings
from pipeline.errors import counted
from pipeline.stores.s3 import PROBE
from pipeline.table.names import STAGED, SUSPECTS

KIB = 1024


def stores(subject: Subject) -> Iterator[Finding]:
    """Check that every prefix can be listed and written, each key only once; raises ``Denied`` otherwise.

    Writes nothing: the probe is a conditional write that a store must refuse.
    """
    settings = subject.settings
    tables = [entry.url for entry in settings.sink if isinstance(entry, ParquetSettings)]
    letters = settings.dead_letter.url.rstrip("/")
    for url in (*tables, letters, letters + STAGED, letters + SUSPECTS):
        store = subject.store(url)
        store.check()
        if url.startswith("s3://") and store.head(PROBE) is not None:
            said = f"{url} ignores conditions on writes: two tasks could overwrite each other's files"
            yield red(said, f"Use a store that honours If-Match and If-None-Match; delete {PROBE} there")
        else:
            yield green(f"{url} can be written, each key once")


def table(subject: Subject) -> Iterator[Finding]:
    """Compare the table's columns with those of the model, as `penstock run` does at its start."""
    from consumer.build import Outside, Parts
    from pipeline.metrics import Metrics

    if subject.example is None or subject.example.rows is None:
        yield yellow("the columns were not compared, since the model is not loaded", "See the finding of the model")
        return
    parts = Parts(subject.settings, Outside(subject.client, subject.store), Metrics())
    sinks = parts.sinks(subject.example.rows)

    async def check() -> None:
        for sink in sinks:
            await sink.check()
            await sink.close()

    asyncio.run(check())
    yield green(f"the sinks take rows of {counted(len(subject.example.rows), 'column')} from the model")


def downstream(subject: Subject) -> Iterator[Finding]:
    """Check that downstream streams exist, are not the source, and take records as large as the source's."""
    source, largest = subject.settings.stream.name, subject.summary.get("MaxRecordSizeInKiB", KIB)
    for entry in subject.settings.sink:
        if not isinstance(entry, KinesisSinkSettings):
            continue
        if entry.stream == source:
            yield red(
                f"the sink writes to {source}, the source: each row is read as a new record", "Name another stream"
            )
            continue
        target = subject.summary_of(entry.stream)
        takes = target.get("MaxRecordSizeInKiB", KIB)
        said = f"{entry.stream} takes records of {takes:,} KiB, {source} of {largest:,} KiB"
        if takes >= largest:
            yield green(said)
        elif subject.settings.model.passthrough:
            more = {"StreamARN": target["StreamARN"], "MaxRecordSizeInKiB": str(largest)}
            fix = f"Pass less through, or allow it {aws_command('kinesis', 'UpdateMaxRecordSize', **more)}"
            yield red(f"{said}: rows with large fields of model.passthrough become dead letters", fix)
        else:
            yield yellow(said, "Rows that are larger become dead letters of that sink")
