"""What is in a table's file, read by someone who trusts none of it: whoever may write there may have written it.

A file is opened only if it carries its own digest (:mod:`pipeline.table.seal`), as every file of the table's does. So
what was changed by accident, was cut off or comes from elsewhere is told at once, and costs no more than its bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.record import Position
from pipeline.table import dead_positions, pages
from pipeline.table.footer import DEAD_POSITIONS, end_of, footer_of, is_ours, previous_end_of
from pipeline.table.schema import IDENTITY
from pipeline.table.seal import is_sealed

ROWS_PER_BYTE = 8
"""No file of the table's has more: each row has an id of its own."""

NAMED_BY_MANY = ["shard_id", "partition_key", "model_version"]
"""Columns of which many rows have the same text."""

YEARS = (-62_135_596_800_000, 253_402_300_800_000)
"""In milliseconds since 1970, the years 1 to 9999: a day is told of no other time."""

UNREADABLE = (pa.ArrowException, KeyError, TypeError, ValueError, OSError, OverflowError, MemoryError)
"""What comes of reading a file that is not whole, not Parquet, not of ours, or gone."""


class Changed(ValueError):
    """A file of a table's, and not what was written."""


@dataclass(frozen=True)
class Contents:
    """``rows``: Penstock's own columns; ``columns``: all of them."""

    footer: dict[str, str]
    rows: pa.Table
    dead: list[Position]
    columns: pa.Schema

    @property
    def end(self) -> Position:
        """Where it says that it ends."""
        return end_of(self.footer)

    @property
    def previous_end(self) -> Position | None:
        return previous_end_of(self.footer)

    @cached_property
    def positions(self) -> list[Position]:
        """Of its rows, as they come."""
        sequences = self.rows["sequence_number"].to_pylist()
        subs = self.rows["sub_sequence_number"].to_pylist()
        return [Position(int(sequence), sub) for sequence, sub in zip(sequences, subs, strict=True)]

    @property
    def first(self) -> Position | None:
        """Where its rows and dead letters begin; None: it has none."""
        return min([*self.positions[:1], *self.dead[:1]], default=None)

    @property
    def last(self) -> Position | None:
        """Where they end, whatever its footer says."""
        return max([*self.positions[-1:], *self.dead[-1:]], default=None)


def _begins_with(columns: pa.Schema, own: pa.Schema) -> bool:
    return bool(len(columns) >= len(own) and pa.schema(list(columns)[: len(own)]).equals(own))


def _read(body: bytes) -> pa.Table:
    """Penstock's columns. A text that is there once, and named by many rows, is held once."""
    file = pq.ParquetFile(pa.BufferReader(body), read_dictionary=NAMED_BY_MANY)
    groups = [place for place in range(file.num_row_groups) if file.metadata.row_group(place).num_rows]
    return file.read_row_groups(groups, IDENTITY.names, use_threads=False)


def _milliseconds(table: pa.Table) -> list[int | None]:
    """The least and the greatest time of each column of times."""
    found: list[int | None] = []
    for name in ("arrived_at", "processed_at"):
        ends = pc.min_max(table[name].cast(pa.int64())).as_py()
        found += [ends["min"], ends["max"], None if table[name].null_count else 0]
    return found if table.num_rows else []


def read(body: bytes | None) -> Contents:
    """Raises :class:`Changed`, or one of :data:`UNREADABLE`."""
    if body is None:
        raise ValueError("it is not there any more, or is no file")
    footer = footer_of(body)
    if not is_ours(footer):
        raise ValueError("it is no Parquet file, or none that Penstock has written whole")
    if not is_sealed(body):
        raise Changed("its bytes are not those that were written")
    file = pq.ParquetFile(pa.BufferReader(body))
    claimed = file.metadata.num_rows
    if claimed > ROWS_PER_BYTE * len(body):
        raise ValueError(f"it claims {claimed:,} rows in {len(body):,} bytes")
    columns = file.schema_arrow.remove_metadata()
    if not _begins_with(columns, IDENTITY) or file.schema.names[: len(IDENTITY)] != IDENTITY.names:
        raise ValueError("its first columns are not Penstock's")
    pages.check(body, file.metadata, len(IDENTITY))
    table = _read(body)
    contents = Contents(footer, table, dead_positions.decoded(footer[DEAD_POSITIONS]), columns)
    if table["sub_sequence_number"].null_count or any(each.sequence < 0 for each in contents.positions):
        raise ValueError("it has rows without a position")
    if any(each is None or not YEARS[0] <= each < YEARS[1] for each in _milliseconds(table)):
        raise ValueError("it has rows that arrived or were processed at no time, or in no year that there is")
    if contents.end < (contents.previous_end or Position(0, -1)):
        raise ValueError("it ends before it goes on")
    return contents
