"""Cuts a file to a size that readers can read, and takes out rows that Parquet cannot hold.

Results are checked where they become rows (:mod:`pipeline.model.arrow_columns`), so a row that Parquet cannot hold
should never arrive here. If one does, it becomes a dead letter, and the task goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.errors import counted, one_line
from pipeline.record import Dead, Enriched, Position, Record

if TYPE_CHECKING:
    from pipeline.sinks.chain import File

log = logging.getLogger("sink.parquet")

FILE_BYTES = 1024 * 1024 * 1024
"""The most bytes of rows in one file, as they lie in memory. Readers fail on a nested column of more than 2 GiB."""

IDENTITY_BYTES = 2048
"""An upper bound of Penstock's own columns of one record: a partition key has 256 characters at most."""

ROW_FAULTS = (pa.ArrowException, ArithmeticError, OSError, TypeError, ValueError)
"""Errors of pyarrow for values that it cannot write. Any other error is a defect of this code, not of a row."""

RowsOf = Callable[[Sequence[Record]], pa.Table]
Write = Callable[[Sequence[Record]], object]


def cut(file: File, rows: RowsOf, most_bytes: int = FILE_BYTES) -> File:
    """Return the beginning of the file that has at most ``most_bytes`` of rows, but at least one record."""
    while (half := _half(file.records)) is not None:
        if _at_most(file.records) <= most_bytes or rows(file.records).nbytes <= most_bytes:
            break
        file = file.before(half)
    return file


def _at_most(records: Sequence[Record]) -> int:
    """An upper bound of the rows' size, as if each batch had no other rows: cheap, and nearly always small enough."""
    batches = {id(each.outcome.table): each.outcome.table for each in records if isinstance(each.outcome, Enriched)}
    payloads = sum(int(batch.nbytes) for batch in batches.values() if batch is not None)
    return IDENTITY_BYTES * len(records) + payloads


def _half(records: Sequence[Record]) -> Position | None:
    """Where the second half begins; None for a single position."""
    return records[len(records) // 2].position if len(records) > 1 else None


def without_unwritable(file: File, write: Write, sink: str) -> File:
    """Return the same file, in which each record that ``write`` fails on is a dead letter of the sink.

    The letter has no payload, which is still in the stream. Raises what ``write`` raises if no record is to blame: out
    of memory, or a failure even without records.
    """
    write([])
    reasons = _unwritable(list(file.records), write)
    log.error("%s: %s cannot be written to Parquet: dead letters instead", file.key, counted(len(reasons), "row"))
    return replace(file, records=[_judged(record, reasons.get(id(record)), sink) for record in file.records])


def _unwritable(records: Sequence[Record], write: Write) -> dict[int, str]:
    """Return why, for each record that fails alone. Searches by halves, so few bad records are found in few tries."""
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
