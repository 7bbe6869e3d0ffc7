"""Walks every shard's list of files and says what is wrong with it: the proof, and the tool of a bad day.

Reads a table as it is, and may run beside its writers: what is written meanwhile is seen or not, never half. Blocks.
Memory holds the keys of the table and one file of it; of files that overlap, the record ids of all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from operator import attrgetter

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.record import Position
from pipeline.sinks.chain import DEAD, DEAD_LETTERS, PREVIOUS_END, ROWS, WRITER, end_of, letters_key
from pipeline.sinks.store import ObjectStore

KEY = re.compile(
    r"v=(?P<generation>\d+)/dt=(?P<day>\d{4}-\d{2}-\d{2})/(?P<list>\d+-(?P<shard>.+))-(?P<first>\d{56})\.parquet"
)
COLUMNS = ("record_id", "sequence_number", "sub_sequence_number")
UNREADABLE = (pa.ArrowException, KeyError, TypeError, ValueError, OSError)
"""What comes of reading a file that is not whole, not Parquet, not of ours, or gone."""


@dataclass(frozen=True, slots=True)
class Problem:
    """``kind`` is one of gap, overlap, duplicate, identity, order, rows, dead-letters, stray, unreadable.

    Held against the stream (``pipeline.sinks.against``) also missing, doubled, alien, differs, behind.
    """

    kind: str
    key: str
    detail: str


@dataclass(slots=True)
class Report:
    """What was found. ``reached``: per list of files (stream's creation and shard), the end of its last file."""

    files: int = 0
    rows: int = 0
    dead_letters: int = 0
    reached: dict[str, Position] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def shards(self) -> int:
        return len(self.reached)

    def problem(self, kind: str, key: str, detail: str) -> None:
        self.problems.append(Problem(kind, key, detail))


@dataclass(frozen=True, slots=True)
class _Entry:
    key: str
    list: str
    shard_id: str
    first: int


def audit(store: ObjectStore, generation: int, dead_letters: ObjectStore | None = None) -> Report:
    """Audit one generation of a table. ``dead_letters``: where its dead letters lie, to be held against the files.

    Contiguity: each file goes on where the one before it ended, and covers nothing of it. Within files: rows in
    sequence order, inside the file's range, as many as its footer says, each ``record_id`` made of the row's shard and
    position. Over all: no ``record_id`` twice, neither among rows nor among rows and dead letters; files that follow
    each other can have none in common. Nothing else lies under the prefix.
    """
    report = Report()
    entries = sorted(_entries(store, generation, report), key=lambda entry: (entry.list, entry.first))
    for name, files in groupby(entries, key=attrgetter("list")):
        ids: list[pa.ChunkedArray] = []
        end: Position | None = None
        furthest = -1
        for entry in files:
            if entry.first > furthest:
                _distinct(name, ids, report)
                ids = []
            end = _file(store, dead_letters, entry, end, ids, report)
            furthest = max(furthest, end.sequence if end else -1)
        _distinct(name, ids, report)
        if end is not None:
            report.reached[name] = end
    return report


def _entries(store: ObjectStore, generation: int, report: Report) -> Iterator[_Entry]:
    for key in store.list(f"v={generation}/"):
        if match := KEY.fullmatch(key):
            yield _Entry(key, match["list"], match["shard"], int(match["first"]))
        else:
            report.problem("stray", key, "is no file of the table's, and readers would read it")


def _file(
    store: ObjectStore,
    dead_letters: ObjectStore | None,
    entry: _Entry,
    before: Position | None,
    ids: list[pa.ChunkedArray],
    report: Report,
) -> Position | None:
    """Audit one file; where the list reaches now."""
    try:
        return _readable(store, dead_letters, entry, before, ids, report)
    except UNREADABLE as error:
        report.problem("unreadable", entry.key, f"{type(error).__name__}: {error}")
        return before


def _readable(
    store: ObjectStore,
    dead_letters: ObjectStore | None,
    entry: _Entry,
    before: Position | None,
    ids: list[pa.ChunkedArray],
    report: Report,
) -> Position:
    table = pq.ParquetFile(pa.BufferReader(store.get(entry.key))).read(list(COLUMNS), use_threads=False)
    footer = {name.decode(): text.decode() for name, text in (table.schema.metadata or {}).items()}
    end = end_of(footer)
    report.files += 1
    report.rows += table.num_rows
    _links(entry, before, end, footer[PREVIOUS_END], report)
    _rows(entry, table, end, int(footer[ROWS]), report)
    ids.append(table["record_id"])
    if int(footer[DEAD]):
        _letters(dead_letters, entry, footer, ids, report)
    return end


def _links(entry: _Entry, before: Position | None, end: Position, previous_end: str, report: Report) -> None:
    if end.sequence < entry.first:
        report.problem("gap", entry.key, f"ends at {end}, before it begins")
    if before is None:
        return
    if entry.first <= before.sequence:
        report.problem("overlap", entry.key, f"begins before {before}, where the file before it ends")
    elif not previous_end or not Position.parse(previous_end).goes_on_from(before):
        report.problem("gap", entry.key, f"goes on from {previous_end or 'nowhere'}, not from {before}")


def _rows(entry: _Entry, table: pa.Table, end: Position, said: int, report: Report) -> None:
    if table.num_rows != said:
        report.problem("rows", entry.key, f"has {table.num_rows} rows, its footer says {said}")
    sequences, subs = table["sequence_number"].to_pylist(), table["sub_sequence_number"].to_pylist()
    positions = [Position(int(sequence), sub) for sequence, sub in zip(sequences, subs, strict=True)]
    if any(later <= earlier for earlier, later in pairwise(positions)):
        report.problem("order", entry.key, "rows are not in sequence order")
    if positions and (min(positions).sequence < entry.first or max(positions) > end):
        report.problem("order", entry.key, f"has rows outside of {entry.first} to {end}")
    if positions:
        _identity(entry, table, report)


def _identity(entry: _Entry, table: pa.Table, report: Report) -> None:
    ids = table["record_id"]
    stream = (ids[0].as_py() or "").partition("/")[0]
    subs = table["sub_sequence_number"].cast(pa.string())
    made = pc.binary_join_element_wise(stream, entry.shard_id, table["sequence_number"], subs, "/")
    wrong = table.filter(pc.invert(pc.fill_null(pc.equal(ids, made), False)))
    if wrong.num_rows:
        example = wrong["record_id"][0].as_py()
        report.problem("identity", entry.key, f"{wrong.num_rows} rows have another record's id, among them {example}")


def _letters(
    dead_letters: ObjectStore | None,
    entry: _Entry,
    footer: Mapping[str, str],
    ids: list[pa.ChunkedArray],
    report: Report,
) -> None:
    """The footer holds the lines themselves, so their object must be just that."""
    report.dead_letters += int(footer[DEAD])
    lines = footer.get(DEAD_LETTERS, "").encode().splitlines()
    if dead_letters is not None:
        plain = letters_key(entry.key)
        apart = f"{plain.removesuffix('.jsonl')}-{footer[WRITER]}.jsonl"
        if lines not in [(dead_letters.get(key) or b"").splitlines() for key in (plain, apart)]:
            report.problem("dead-letters", entry.key, f"{plain} does not hold the {footer[DEAD]} of its footer")
    ids.append(pa.chunked_array([pa.array([orjson.loads(line)["record_id"] for line in lines], pa.string())]))


def _distinct(name: str, ids: list[pa.ChunkedArray], report: Report) -> None:
    every = pa.chunked_array([chunk for column in ids for chunk in column.chunks], pa.string())
    twice = len(every) - pc.count_distinct(every, mode="all").as_py()
    if twice:
        counts = every.value_counts()
        example = next(entry["values"].as_py() for entry in counts if entry["counts"].as_py() > 1)
        report.problem("duplicate", name, f"{twice} records more than once, among them {example}")
