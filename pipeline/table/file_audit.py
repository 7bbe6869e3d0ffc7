"""Checks one file of a table by itself: compares what it says with what it contains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import counted
from pipeline.record import Position
from pipeline.stores.base import Metadata
from pipeline.table.contents import TIMES, Contents
from pipeline.table.footer import DEAD, DEAD_POSITIONS, KEY, LETTERS_SHA256, ON_BOTH, ROWS, WRITER

DAY_MS = 24 * 60 * 60 * 1000

FIRST_DAY = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class TableEntry:
    """A file of a table, as its key describes it. ``first``: where it begins; unknown for redriven rows."""

    key: str
    list: str
    shard_id: str
    day: str
    first: Position


FileFaults = Iterator[tuple[str, str]]
"""Pairs of a problem's kind and detail."""


def metadata_faults(on_object: Metadata | None, contents: Contents, names: Sequence[str] = ON_BOTH) -> FileFaults:
    """Compare the metadata on the object, which writers read, with the footer, which readers read."""
    for name in names:
        said = (on_object or {}).get(name)
        if said != contents.footer[name]:
            yield "metadata", f"its object says {name}={said!r}, its footer {contents.footer[name]!r}"


def place_faults(entry: TableEntry, contents: Contents) -> FileFaults:
    """Check that the file begins and ends where it says, and has the key that it was written to."""
    if (written_as := contents.footer.get(KEY)) != entry.key:
        yield "range", f"was written as {written_as}"
    if contents.first != entry.first:
        yield "range", f"begins with {contents.first or 'nothing'}, but its name says {entry.first}"
    if contents.last != contents.end:
        yield "range", f"ends with {contents.last or 'nothing'}, but its footer says {contents.end}"


def count_faults(contents: Contents) -> FileFaults:
    """Check that the file has as many rows and dead letters as it says."""
    for name, what, count in ((ROWS, "rows", contents.rows.num_rows), (DEAD, "dead letters", len(contents.dead))):
        if contents.footer[name] != str(count):
            yield "rows", f"has {count} {what}, but its footer says {contents.footer[name]}"
    if not contents.footer[WRITER]:
        yield "metadata", "its footer names no writer"
    if bool(contents.footer[DEAD_POSITIONS]) < bool(contents.footer[LETTERS_SHA256]):
        yield "metadata", "its footer has a hash of dead letters, but no dead letters"


def row_faults(entry: TableEntry, contents: Contents) -> FileFaults:
    """Check that the rows are in order and within the file's range, each with the id and values of its place."""
    positions = contents.positions
    if any(later <= earlier for earlier, later in pairwise(positions)):
        yield "order", "rows are not in sequence order"
    if positions and (min(positions) < entry.first or max(positions) > contents.end):
        yield "order", f"has rows outside its range, {entry.first} to {contents.end}"
    if both := set(positions).intersection(contents.dead):
        yield "duplicate", f"{counted(len(both), 'record')} with both a row and a dead letter, among them {min(both)}"
    if positions:
        yield from identity_faults(entry, contents.rows)
        yield from value_faults(entry, contents)


def identity_faults(entry: TableEntry, rows: pa.Table) -> FileFaults:
    """Check that each row has the id and the shard of its place. The file must have rows."""
    stream = (rows["record_id"][0].as_py() or "").partition("/")[0]
    subs = rows["sub_sequence_number"].cast(pa.string())
    made = pc.binary_join_element_wise(stream, entry.shard_id, rows["sequence_number"], subs, "/")
    if made.null_count or not made.equals(rows["record_id"]):
        wrong = rows.filter(pc.invert(pc.fill_null(pc.equal(rows["record_id"], made), False)))
        yield (
            "identity",
            f"{counted(wrong.num_rows, 'row')} with another record's id, among them {wrong['record_id'][0].as_py()}",
        )
    if pc.unique(rows["shard_id"]).to_pylist() != [entry.shard_id]:
        yield "identity", f"has rows of other shards than {entry.shard_id}"


def value_faults(entry: TableEntry, contents: Contents) -> FileFaults:
    """Check that all rows arrived on the file's day, were written at one time, and by one model. The file must have
    rows.
    """
    arrived, processed = (contents.times[name] for name in TIMES)
    if arrived is None or {each // DAY_MS for each in arrived} != {_day(entry.day)}:
        yield "values", f"has rows that did not arrive on {entry.day}"
    models = pc.unique(contents.rows["model_version"]).to_pylist()
    one = {"processed_at": processed is not None and processed[0] == processed[1], "model_version": _is_one(models)}
    for name, is_one in one.items():  # a file has one writer, one time of writing, one model
        if not is_one:
            yield "values", f"{name} is not the same in all of its rows"


def _is_one(values: Sequence[str | None]) -> bool:
    return len(values) == 1 and values[0] is not None


def _day(text: str) -> int:
    """The day, counted from 1970."""
    return date.fromisoformat(text).toordinal() - FIRST_DAY
