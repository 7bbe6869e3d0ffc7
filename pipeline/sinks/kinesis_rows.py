"""Turns a run into rows for a stream: a JSON object and a partition key for each enriched record, or why there is
none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import pyarrow as pa

from pipeline.errors import Broken, counted, one_line
from pipeline.record import Enriched, Record, Run
from pipeline.sinks.json_rows import Unwritable, encode_each
from pipeline.sinks.partition_keys import key_for

log = logging.getLogger("sink")

ROW_FAULTS = (pa.ArrowException, ArithmeticError, TypeError, ValueError)
"""Errors for values that do not fit. Any other error is a defect of this code, not of a row."""


class RowLoad(NamedTuple):
    """A record on its way to a stream. ``row``: key and data, or why there are none; None: the record is a dead letter.

    ``origin``: the record with its payload, without the batch that its row is in.
    """

    origin: Record
    row: tuple[str, bytes] | Unwritable | None


def loads_of(run: Run, table: Callable[[Run], pa.Table], row_bytes: int) -> list[RowLoad]:
    """Return a load for each record, in order. ``table`` makes a table of the enriched ones; ``row_bytes``: the most
    bytes of key and data.

    :raises Broken: the table does not have one row for each enriched record.
    """
    good = [record for record in run.records if isinstance(record.outcome, Enriched)]
    encoded = _encoded(table, run, good)
    if len(encoded) != len(good):
        raise Broken(f"{counted(len(good), 'enriched record')} made {counted(len(encoded), 'row')}")
    coming = zip(good, encoded, strict=True)
    rows = {id(record): _passthrough(record, run.shard.stream, data, row_bytes) for record, data in coming}
    payloads = run.payloads or [b""] * len(run.records)
    return [
        RowLoad(replace(record, data=payload, outcome=None), rows.get(id(record)))
        for record, payload in zip(run.records, payloads, strict=True)
    ]


def size_of(run: Run) -> int:
    """Return the approximate bytes of a run in memory before encoding: its shares of batches, and the payloads."""
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
        why = f"the row has {size_bytes:,} bytes with its key, but the stream takes at most {row_bytes:,}"
        return Unwritable(why, why)
    return key, data


def _encoded(table: Callable[[Run], pa.Table], run: Run, good: Sequence[Record]) -> Sequence[bytes | Unwritable]:
    """Return a row for each enriched record, or why there is none."""
    if not good:
        return []
    try:
        made = table(run)
    except ROW_FAULTS:
        log.debug("a run cannot be made a table: each of its records is tried alone", exc_info=True)
        return [_encoded_alone(table, Run(run.shard, [record])) for record in good]
    return encode_each(made)


def _encoded_alone(table: Callable[[Run], pa.Table], run: Run) -> bytes | Unwritable:
    try:
        made = table(run)
    except ROW_FAULTS as error:
        why = "it cannot be made a row"
        return Unwritable(f"{why}: {one_line(error)}", f"{why} ({type(error).__name__})")
    return encode_each(made)[0]
