"""Reads two tables' files side by side: windows of positions that both sides have completely, in order.

Files are read batch by batch, so that memory holds a file's bytes and one batch of its rows for each open file. In a
correct table that is one file on each side. Files whose ranges overlap are open together and still read correctly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import UserError, one_line
from pipeline.record import Position
from pipeline.stores.base import ObjectStore
from pipeline.table.contents import UNREADABLE
from pipeline.table.footer import is_ours, is_redriven
from pipeline.table.names import SEQUENCE_DIGITS, place_of

BATCH_BYTES = 8 * 1024 * 1024
"""Approximate bytes of rows in a batch, in memory."""

MOST_ROWS = 65_536
"""The most rows in a batch."""

ID, SEQUENCE, SUB = "record_id", "sequence_number", "sub_sequence_number"

PLACE = "place"
"""The column that is added: a text that sorts as positions do."""

SUB_DIGITS = 19
"""Digits of the largest sub-sequence number."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """A file of a table. ``first``: no row of it is before this position."""

    key: str
    first: Position


@dataclass(slots=True)
class Side:
    """One table's files of a shard's day, and the columns to read. ``footer`` is called with each file's footer."""

    store: ObjectStore
    files: Sequence[TableFile]
    columns: Sequence[str]
    footer: Callable[[str, dict[str, str]], None] = lambda key, footer: None
    _open: list[_Cursor] = field(default_factory=list)
    _waiting: list[TableFile] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._waiting = sorted(self.files, key=lambda file: file.first, reverse=True)

    @property
    def next_place(self) -> str | None:
        """Return the place up to which all rows are known without opening another file; None: there are no more
        rows.
        """
        while not self._open and self._waiting:
            self._begin()
        return min((cursor.last for cursor in self._open), default=None)

    def reach(self, place: str) -> bool:
        """Open the files that begin up to this place; return whether there were any."""
        before = len(self._waiting)
        while self._waiting and _text(self._waiting[-1].first) <= place:
            self._begin()
        return len(self._waiting) < before

    def take(self, place: str) -> pa.Table:
        """Return the rows up to this place; unordered if files overlap."""
        parts = [part for cursor in self._open for part in cursor.take(place)]
        self._open = [cursor for cursor in self._open if not cursor.is_done]
        return pa.Table.from_batches(parts, schema=parts[0].schema) if parts else _nothing()

    def _begin(self) -> None:
        cursor = _Cursor(self.store, self._waiting.pop().key, self.columns, self.footer)
        if not cursor.is_done:
            self._open.append(cursor)


def windows(a: Side, b: Side) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yield both sides' rows, one range at a time. A record is in the same window on both sides."""
    while (place := _bound(a, b)) is not None:
        while a.reach(place) | b.reach(place):
            place = _bound(a, b) or place
        yield a.take(place), b.take(place)


def _bound(a: Side, b: Side) -> str | None:
    return min((each for side in (a, b) if (each := side.next_place) is not None), default=None)


class _Cursor:
    """A file that is read in batches."""

    def __init__(
        self, store: ObjectStore, key: str, columns: Sequence[str], heard: Callable[[str, dict[str, str]], None]
    ) -> None:
        self._key = key
        self._batches = _batches(store, key, columns, heard)
        self._batch: pa.RecordBatch | None = None
        self.last = ""
        self._next()

    @property
    def is_done(self) -> bool:
        return self._batch is None

    def take(self, place: str) -> Iterator[pa.RecordBatch]:
        while self._batch is not None:
            count = pc.sum(pc.less_equal(self._batch[PLACE], place)).as_py()
            if count < self._batch.num_rows:
                yield self._batch.slice(0, count)
                self._batch = self._batch.slice(count)
                return
            yield self._batch
            self._next()

    def _next(self) -> None:
        """Read the next batch that has rows.

        :raises UserError: they are not in order.
        """
        before = self.last
        try:
            self._batch = next((each for each in self._batches if each.num_rows), None)
        except UNREADABLE as error:
            raise _bad(self._key, one_line(error)) from None
        if self._batch is None:
            return
        places = self._batch[PLACE]
        self.last = places[-1].as_py()
        rising = pc.all(pc.less(places[:-1], places[1:])).as_py() if len(places) > 1 else True
        if not rising or places[0].as_py() <= before:
            raise _bad(self._key, "its rows are not in the order of their places")


def _batches(
    store: ObjectStore, key: str, columns: Sequence[str], heard: Callable[[str, dict[str, str]], None]
) -> Iterator[pa.RecordBatch]:
    file = opened(store, key)
    heard(key, footer(file))
    rows = max(1, file.metadata.num_rows)
    size = sum(file.metadata.row_group(place).total_byte_size for place in range(file.metadata.num_row_groups))
    count = max(1, min(MOST_ROWS, BATCH_BYTES * rows // max(1, size)))
    wanted = [ID, SEQUENCE, SUB, *columns]
    for batch in file.iter_batches(batch_size=count, columns=wanted, use_threads=False):
        yield batch.append_column(PLACE, _places(batch))


def opened(store: ObjectStore, key: str) -> pq.ParquetFile:
    """Open a file of a table.

    :raises UserError: it is gone, or is not a file of a table.
    """
    body = store.get(key)
    if body is None:
        raise _bad(key, "it is gone, or is not a file")
    try:
        file = pq.ParquetFile(pa.BufferReader(body))
    except UNREADABLE as error:
        raise _bad(key, one_line(error)) from None
    if not is_ours(footer(file)) and not is_redriven(footer(file)):
        raise _bad(key, "it has no footer of Penstock's")
    return file


def footer(file: pq.ParquetFile) -> dict[str, str]:
    """Return the key-value metadata of the footer."""
    found = file.metadata.metadata or {}
    return {name.decode("utf-8", "replace"): text.decode("utf-8", "replace") for name, text in found.items()}


def _bad(key: str, why: str) -> UserError:
    return UserError(f"{key}: {why}. Run penstock audit to see what is wrong with the table")


def _places(batch: pa.RecordBatch) -> pa.Array:
    sequences = pc.utf8_lpad(batch[SEQUENCE], SEQUENCE_DIGITS, "0")
    subs = pc.utf8_lpad(batch[SUB].cast(pa.string()), SUB_DIGITS, "0")
    return pc.binary_join_element_wise(sequences, subs, "-")


def _text(position: Position) -> str:
    sequence, _, sub = place_of(position).partition("-")
    return f"{sequence}-{sub:0>{SUB_DIGITS}}"


def _nothing() -> pa.Table:
    return pa.table({ID: pa.array([], pa.string())})
