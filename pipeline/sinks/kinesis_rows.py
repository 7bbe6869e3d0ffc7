"""What a run is to a stream: a row of JSON for each enriched record, under its key, or the reason why there is none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import pyarrow as pa

from pipeline.errors import Broken, one_line
from pipeline.record import Enriched, Record, Run
from pipeline.sinks.json_rows import Unwritable, encode_each
from pipeline.sinks.partition_keys import key_for

log = logging.getLogger("sink")

ROW_FAULTS = (pa.ArrowException, ArithmeticError, TypeError, ValueError)
"""What values raise that do not fit. Anything else is a defect of ours, and about no row."""


class Load(NamedTuple):
    """``origin``: the record with its payload, and without the batch that its row is in. ``row``: key and data; None
    for a record that is a dead letter already."""

    origin: Record
    row: tuple[str, bytes] | Unwritable | None


def loads_of(run: Run, table: Callable[[Run], pa.Table], row_bytes: int) -> list[Load]:
    """A load for each record, in order. ``table`` types the enriched ones; ``row_bytes``: key and data, at most.

    Raises ``Broken`` if the table has not a row for each enriched record.
    """
    good = [record for record in run.records if isinstance(record.outcome, Enriched)]
    encoded = _encoded(table, run, good)
    if len(encoded) != len(good):
        raise Broken(f"{len(good)} enriched records made {len(encoded)} rows")
    coming = zip(good, encoded, strict=True)
    rows = {id(record): _passthrough(record, run.shard.stream, data, row_bytes) for record, data in coming}
    payloads = run.payloads or [b""] * len(run.records)
    return [
        Load(replace(record, data=payload, outcome=None), rows.get(id(record)))
        for record, payload in zip(run.records, payloads, strict=True)
    ]


def size_of(run: Run) -> int:
    """About what a run holds in memory before its rows are encoded: each its share of its batch, and the payloads."""
    shares: dict[int, int] = {}
    size_bytes = sum(map(len, run.payloads))
    for record in run.records:
        if isinstance(record.outcome, Enriched):
            batch = record.outcome.table
            if id(batch) not in shares:
                shares[id(batch)] = batch.nbytes // max(1, batch.num_rows)
            size_bytes += shares[id(batch)]
    return size_bytes


def _passthrough(
    record: Record, stream: str, data: bytes | Unwritable, row_bytes: int
) -> tuple[str, bytes] | Unwritable:
    if isinstance(data, Unwritable):
        return data
    key = key_for(record, stream)
    size_bytes = len(data) + len(key.encode())
    if size_bytes > row_bytes:
        why = f"the row has {size_bytes:,} bytes with its key, and the stream takes {row_bytes:,}"
        return Unwritable(why, why)
    return key, data


def _encoded(table: Callable[[Run], pa.Table], run: Run, good: Sequence[Record]) -> Sequence[bytes | Unwritable]:
    """A row for each of the enriched records, or why there is none."""
    if not good:
        return []
    try:
        made = table(run)
    except ROW_FAULTS:
        log.debug("a run makes no table: each of its records is tried by itself", exc_info=True)
        return [_encoded_alone(table, Run(run.shard, [record])) for record in good]
    return encode_each(made)


def _encoded_alone(table: Callable[[Run], pa.Table], run: Run) -> bytes | Unwritable:
    try:
        made = table(run)
    except ROW_FAULTS as error:
        why = "no row can be made of it"
        return Unwritable(f"{why}: {one_line(error)}", f"{why} ({type(error).__name__})")
    return encode_each(made)[0]
