"""What of a file can be written: cut where Parquet could not give it back, and without the rows that it cannot hold.

What a model returns is checked where it becomes rows (:mod:`pipeline.model.arrow_columns`), so no row should ever be
met here that Parquet cannot hold. One that is met all the same is a dead letter, and ends no task.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.errors import one_line
from pipeline.record import Dead, Enriched, Position, Record

if TYPE_CHECKING:
    from pipeline.sinks.chain import File

log = logging.getLogger("sink.parquet")

FILE_BYTES = 1024 * 1024 * 1024
"""Of rows in one file, as they lie in memory. Readers fail on a nested column of more than 2 GiB in one piece."""

IDENTITY_BYTES = 2048
"""Penstock's own columns of a record have less: its partition key has 256 characters at most."""

ROW_FAULTS = (pa.ArrowException, ArithmeticError, OSError, TypeError, ValueError)
"""What pyarrow raises for values that it cannot write. Anything else is a defect of ours, and about no row."""

Rows = Callable[[Sequence[Record]], pa.Table]
Write = Callable[[Sequence[Record]], object]


def cut(file: File, rows: Rows, most_bytes: int = FILE_BYTES) -> File:
    """As much of the file's beginning as has so many bytes of rows; one record at least."""
    while (half := _half(file.records)) is not None:
        if _at_most(file.records) <= most_bytes or rows(file.records).nbytes <= most_bytes:
            break
        file = file.before(half)
    return file


def _at_most(records: Sequence[Record]) -> int:
    """What their rows have, were each batch theirs alone: cheap, and nearly always little enough."""
    batches = {id(each.outcome.table): each.outcome.table for each in records if isinstance(each.outcome, Enriched)}
    payloads = sum(int(batch.nbytes) for batch in batches.values() if batch is not None)
    return IDENTITY_BYTES * len(records) + payloads


def _half(records: Sequence[Record]) -> Position | None:
    """Where the second half begins; None if there is none."""
    return records[len(records) // 2].position if len(records) > 1 else None


def without_unwritable(file: File, write: Write, sink: str) -> File:
    """The same file, in which each record that ``write`` fails on is a dead letter of the sink.

    Its payload is not kept: nobody foresees that it is needed, and it is in the stream. Raises what ``write`` raises
    where no record is to blame: without memory, or if it fails even on none.
    """
    write([])
    reasons = _unwritable(list(file.records), write)
    log.error("%s: %d rows cannot be written to Parquet, and become dead letters", file.key, len(reasons))
    return replace(file, records=[_judged(record, reasons.get(id(record)), sink) for record in file.records])


def _unwritable(records: Sequence[Record], write: Write) -> dict[int, str]:
    """Why, for each of the records that fail by themselves. Halves, so that few failing ones are found in few tries."""
    try:
        write(records)
    except MemoryError:
        raise
    except ROW_FAULTS as error:
        if len(records) == 1:
            return {id(records[0]): f"Parquet cannot hold the row: {one_line(error)}"}
        middle = len(records) // 2
        return _unwritable(records[:middle], write) | _unwritable(records[middle:], write)
    return {}


def _judged(record: Record, reason: str | None, sink: str) -> Record:
    if reason is None or not isinstance(record.outcome, Enriched):
        return record
    return replace(record, outcome=Dead(b"", reason, "", 1, "sink", sink=sink))
