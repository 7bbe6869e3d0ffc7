"""Reads a table's file without trusting it: anyone who may write to the prefix may have written the file.

A file is parsed only if it carries its own digest (:mod:`pipeline.table.seal`), as all files of a table do. So a file
that was changed, cut off, or comes from elsewhere is detected at once, and costs no more memory than its bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.record import Position
from pipeline.table import dead_positions, pages
from pipeline.table.footer import DEAD_POSITIONS, end_of, is_ours, is_redriven, previous_end_of, texts_of
from pipeline.table.schema import IDENTITY
from pipeline.table.seal import is_sealed

ROWS_PER_BYTE = 8
"""More rows for each byte than any file of a table has: every row has its own id."""

TIMES = ("arrived_at", "processed_at")
"""Columns of milliseconds since 1970."""

NAMED_BY_MANY = ["shard_id", "partition_key", "model_version"]
"""Columns in which many rows share the same text."""

YEARS = (-62_135_596_800_000, 253_402_300_800_000)
"""First and last millisecond, since 1970, of the years 1 to 9999: other times cannot be shown as a date."""

UNREADABLE = (pa.ArrowException, KeyError, TypeError, ValueError, OSError, OverflowError, MemoryError)
"""Errors from reading a file that is incomplete, gone, not Parquet, or not Penstock's."""


class FileChanged(ValueError):
    """The file belongs to a table, but its bytes are not those that were written."""


@dataclass(frozen=True, eq=False)
class Contents:
    """A parsed file. ``rows``: Penstock's own columns; ``columns``: the schema of all columns; ``dead``: rising
    positions. Equal only to itself.
    """

    footer: dict[str, str]
    rows: pa.Table
    dead: list[Position]
    columns: pa.Schema

    @property
    def end(self) -> Position:
        """The last position of the file, as its footer says."""
        return end_of(self.footer)

    @property
    def previous_end(self) -> Position | None:
        """Where the file before this one ended, as the footer says; None for a shard's first file."""
        return previous_end_of(self.footer)

    @cached_property
    def positions(self) -> list[Position]:
        """Positions of the rows, in the file's order."""
        sequences = self.rows["sequence_number"].to_pylist()
        subs = self.rows["sub_sequence_number"].to_pylist()
        return [Position(int(sequence), sub) for sequence, sub in zip(sequences, subs, strict=True)]

    @cached_property
    def streams(self) -> frozenset[str]:
        """The streams that the rows' ids begin with: nearly always one."""
        every = self.rows["record_id"]
        first, slash, _ = ((len(every) and every[0].as_py()) or "").partition("/")
        if slash and not every.null_count and pc.all(pc.starts_with(every, first + slash)).as_py():
            return frozenset({first})
        ids = pc.list_element(pc.split_pattern(every, "/", max_splits=1), 0)
        return frozenset(pc.unique(ids).to_pylist()) - {None}

    @cached_property
    def times(self) -> dict[str, tuple[int, int] | None]:
        """The first and the last millisecond, since 1970, of each time column; None if a row has no time. Empty if
        there are no rows.
        """
        return {name: _ends(self.rows[name]) for name in TIMES} if self.rows.num_rows else {}

    @property
    def first(self) -> Position | None:
        """The lowest position of rows and dead letters; None if there are none."""
        return min([*self.positions[:1], *self.dead[:1]], default=None)

    @property
    def last(self) -> Position | None:
        """The highest position of rows and dead letters, whatever the footer says; None if there are none."""
        return max([*self.positions[-1:], *self.dead[-1:]], default=None)


def _begins_with(columns: pa.Schema, own: pa.Schema) -> bool:
    return bool(len(columns) >= len(own) and pa.schema(list(columns)[: len(own)]).equals(own))


def _file(body: bytes) -> pq.ParquetFile | None:
    """Parse a file's footer; None if that fails. A text that many rows share will be held in memory once."""
    try:
        # Without threads, which would only copy bytes that are in memory already.
        return pq.ParquetFile(pa.BufferReader(body), read_dictionary=NAMED_BY_MANY, pre_buffer=False)
    except (pa.ArrowException, OSError, ValueError):
        return None


def _rows(file: pq.ParquetFile) -> pa.Table:
    """Read Penstock's columns."""
    groups = [place for place in range(file.num_row_groups) if file.metadata.row_group(place).num_rows]
    return file.read_row_groups(groups, IDENTITY.names, use_threads=False)


def _ends(column: pa.ChunkedArray) -> tuple[int, int] | None:
    if column.null_count:
        return None
    ends = pc.min_max(column)
    return ends["min"].value, ends["max"].value


def read(body: bytes | None) -> Contents:
    """Parse a file's bytes; ``None`` stands for a file that is gone.

    :raises FileChanged: its digest does not match.
    :raises UNREADABLE: one of these, with a text for a person: it is not a whole file of a table.
    """
    contents = _opened(body, is_ours)
    if contents.end < (contents.previous_end or Position(0, -1)):
        raise ValueError("it ends before the place that it continues from")
    return contents


def read_redriven(body: bytes | None) -> Contents:
    """As :func:`read`, for a file of redriven rows, which has no dead letters and no range."""
    return _opened(body, is_redriven)


def _opened(body: bytes | None, is_kind: Callable[[dict[str, str]], bool]) -> Contents:
    if body is None:
        raise ValueError("it is gone, or is not a file")
    file = _file(body)
    footer = texts_of(file and file.metadata)
    if file is None or not is_kind(footer):
        raise ValueError("it is not a complete Parquet file written by Penstock")
    if not is_sealed(body):
        raise FileChanged("its bytes are not those that were written")
    metadata = file.metadata
    claimed = metadata.num_rows
    if claimed > ROWS_PER_BYTE * len(body):
        raise ValueError(f"it claims {claimed:,} rows in {len(body):,} bytes")
    columns = metadata.schema.to_arrow_schema().remove_metadata()
    if not _begins_with(columns, IDENTITY) or metadata.schema.names[: len(IDENTITY)] != IDENTITY.names:
        raise ValueError("its first columns are not Penstock's")
    pages.check(body, metadata, len(IDENTITY))
    dead = dead_positions.decoded(footer[DEAD_POSITIONS] if is_kind is is_ours else "")
    contents = Contents(footer, _rows(file), dead, columns)
    if contents.rows["sub_sequence_number"].null_count or any(each.sequence < 0 for each in contents.positions):
        raise ValueError("it has rows without a position")
    if any(ends is None or ends[0] < YEARS[0] or ends[1] >= YEARS[1] for ends in contents.times.values()):
        raise ValueError("it has rows whose arrived_at or processed_at is missing or outside the years 1 to 9999")
    return contents
