"""Audits a table: reads every shard's list of files and reports what is wrong with it.

The audit only reads, and may run while writers add files: a file that appears meanwhile is either seen whole or not at
all. All calls block. Memory holds the keys of the table and one file at a time; where files overlap, also the record
ids of all files that overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import counted, one_line
from pipeline.record import Position
from pipeline.stores.base import Denied, ObjectStore, Retryable
from pipeline.table import letters_audit
from pipeline.table.contents import UNREADABLE, Contents, FileChanged, read
from pipeline.table.file_audit import TableEntry, count_faults, metadata_faults, place_faults, row_faults
from pipeline.table.footer import (
    LETTERS_SHA256,
    WRITER,
    ends_whole,
    goes_on,
    is_ours,
)
from pipeline.table.names import STAGED, TABLE_FILE, first_of, is_day, letters_key
from pipeline.table.redriven_audit import Redriven, is_redriven_file
from pipeline.table.sink_letters import SinkLetters
from pipeline.table.staged_letters import Ledger

SKIPPED = ("_", ".")
"""Most readers of Parquet skip files and folders whose names start with one of these."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the table, at ``key``: a file, a list of files, or a shard.

    ``kind`` is one of gap, overlap, duplicate, identity, order, range, rows, values, columns, metadata, changed,
    dead-letters, stray, unreadable; a comparison with the stream (:mod:`pipeline.table.compare`) adds missing, doubled,
    alien, differs, behind. ``detail`` is one line for a person.
    """

    kind: str
    key: str
    detail: str


@dataclass(slots=True)
class AuditReport:
    """The result of an audit.

    ``begins`` and ``reached``: for each list of files (stream's creation time and shard), where its first file begins
    and where its last row or dead letter is. ``redriven``: how many of the dead letters have a redriven row, which is
    among ``rows``. ``letters_of_sinks``: the number of dead letters whose record has a row
    here, because only another sink could not store it.
    """

    files: int = 0
    rows: int = 0
    dead_letters: int = 0
    redriven: int = 0
    letters_of_sinks: int = 0
    begins: dict[str, Position] = field(default_factory=dict)
    reached: dict[str, Position] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def shards(self) -> int:
        """How many lists of files were read: one for each shard and each life of the stream."""
        return len(self.reached)

    def problem(self, kind: str, key: str, detail: str) -> None:
        """Add a problem to the report."""
        self.problems.append(Problem(kind, key, detail))


def audit(store: ObjectStore, dead_letters: ObjectStore | None = None) -> AuditReport:
    """Audit a table, and its dead letters if the store ``dead_letters`` is given.

    Checked for each file: its bytes are those that were written; the metadata on the object equals that in the footer;
    it begins where its name says, and ends with its last row or dead letter; its rows are in sequence order, as many as
    the footer says, each with the id, shard and day of its place.

    Checked for each list: every file begins where the one before it ended. For the table: no ``record_id`` occurs twice
    among rows and dead letters, except that a dead letter may have one redriven row; there is one stream and one set of
    columns, and nothing else lies below the URL. For the dead letters: they are exactly those that the files name.

    :raises Retryable: the store did not answer.
    :raises Denied: the store refused.
    """
    report = AuditReport()
    keys = store.list("")
    audited = _Audit(store, dead_letters, report, Redriven.among(keys))
    entries = sorted(_entries(store, keys, report), key=lambda entry: (entry.list, entry.first))
    for name, files in groupby(entries, key=attrgetter("list")):
        audited.list_of(name, list(files))
    audited.redriven_rows()
    audited.unreferenced_letters()
    return report


def _entries(store: ObjectStore, keys: Sequence[str], report: AuditReport) -> Iterator[TableEntry]:
    for key in keys:
        match = TABLE_FILE.fullmatch(key)
        target = store.link(key)
        if match and is_day(match["day"]) and target is None:
            yield TableEntry(key, match["list"], match["shard"], match["day"], first_of(key))
        elif target is not None or not is_redriven_file(key):
            skipped = any(part.startswith(SKIPPED) for part in key.split("/"))
            what = "is not a file of this table" if target is None else f"is a link to {target}"
            report.problem("stray", key or "/", f"{what}; {_who(skipped, target)}. Move it elsewhere")


def _who(skipped: bool, target: str | None) -> str:
    """Which readers would read such a file. In DuckDB 1.4 only ``**`` does not follow links to folders, and no glob
    skips names with ``_`` or ``.``.
    """
    if skipped:
        return "pandas, pyarrow and Spark skip it, DuckDB reads it"
    if target is not None:
        return "pandas, pyarrow, Spark and DuckDB's */*.parquet follow it and read its target a second time"
    return "readers would read it"


@dataclass(slots=True)
class _Ids:
    """The record ids of files that overlap: nearly always of one file. ``sound``: that file's rows and dead letters
    have different places, each with the id of its place, so that no id is there twice.
    """

    columns: list[pa.ChunkedArray] = field(default_factory=list)
    files: int = 0
    sound: bool = True

    @property
    def may_repeat(self) -> bool:
        return self.files > 1 or not self.sound


class _Audit:
    def __init__(
        self, store: ObjectStore, dead_letters: ObjectStore | None, report: AuditReport, redriven: Redriven
    ) -> None:
        self._store = store
        self._redriven = redriven
        self._dead_letters = dead_letters
        self._report = report
        self._named: set[str] = set()
        self._continued: dict[str, bool] = {}
        self._stream = ""
        self._columns: tuple[str, pa.Schema] | None = None
        self._letter_keys = dead_letters.list("") if dead_letters is not None else []
        self._of_sinks = SinkLetters()
        if dead_letters is not None:
            self._of_sinks = SinkLetters.of(dead_letters, self._letter_keys)

    def list_of(self, name: str, entries: list[TableEntry]) -> None:
        """Audit one shard's files, in their order."""
        ids = _Ids()
        before: Contents | None = None
        unread = False
        furthest: Position | None = None
        for entry in entries:
            if furthest is None or entry.first > furthest:
                _distinct(name, ids, self._report)
                ids = _Ids()
            contents = self._read(entry)
            if contents is None:
                unread = True
                self._redriven.unread(entry)
                continue
            self._redriven.dead(entry, contents.dead)
            self._links(entry, contents, before, furthest, unread=unread)
            try:
                self._file(entry, contents, ids)
            except (Retryable, Denied):
                raise
            except Exception as error:  # noqa: BLE001  # a foreign file can make Arrow raise anything
                self._report.problem("unreadable", entry.key, one_line(error))
                ids.sound = False
            before, unread = contents, False
            if contents.last is not None:
                furthest = max(furthest or contents.last, contents.last)
        _distinct(name, ids, self._report)
        if furthest is not None:
            self._report.begins[name], self._report.reached[name] = entries[0].first, furthest

    def redriven_rows(self) -> None:
        """Audit the files of rows whose records were dead letters first, after all lists."""
        report = self._report
        for key, found in self._redriven.walk(self._store):
            report.files += 1
            if found.contents is not None:
                report.rows += found.contents.rows.num_rows
                report.redriven += found.contents.rows.num_rows
                found.faults += self._one_table(found.entry, found.contents)
            for kind, detail in found.faults:
                report.problem(kind, key, detail)

    def unreferenced_letters(self) -> None:
        report = self._report
        lists = {name: (begins, self._continued.get(name, False)) for name, begins in report.begins.items()}
        ranges = {name: (begins, report.reached[name]) for name, begins in report.begins.items()}
        faults = [*letters_audit.unnamed(self._letter_keys, self._store, self._named, lists), *self._of_sinks.faults]
        for key, why in (*faults, *self._of_sinks.of_no_row(ranges)):
            report.problem("dead-letters", key or "/", why)
        report.letters_of_sinks = self._of_sinks.count

    def _read(self, entry: TableEntry) -> Contents | None:
        try:
            return read(self._store.get(entry.key))
        except FileChanged as error:
            self._report.problem("changed", entry.key, f"{error}. Restore it from a copy")
        except UNREADABLE as error:
            self._report.problem("unreadable", entry.key, f"{type(error).__name__}: {error}")
        return None

    def _links(
        self, entry: TableEntry, contents: Contents, before: Contents | None, furthest: Position | None, *, unread: bool
    ) -> None:
        """Check that a file continues where the one before it ended.

        ``unread``: the file before it could not be read, so its end is unknown.
        """
        previous = contents.previous_end
        if before is None:
            self._continued.setdefault(entry.list, previous is not None)
        if previous is not None and previous >= entry.first:
            self._report.problem("gap", entry.key, f"continues from {previous}, which is after its own beginning")
        elif furthest is not None and entry.first <= furthest:
            self._report.problem("overlap", entry.key, f"begins before {furthest}, where an earlier file ends")
        elif before is not None and not unread and not goes_on(entry.first, previous, before.footer):
            where = "" if ends_whole(before.footer) else ", inside an aggregate whose rest must follow"
            detail = f"continues from {previous or 'nowhere'}, but the file before it ends at {before.end}{where}"
            self._report.problem("gap", entry.key, detail)

    def _file(self, entry: TableEntry, contents: Contents, ids: _Ids) -> None:
        report = self._report
        report.files += 1
        report.rows += contents.rows.num_rows
        report.dead_letters += len(contents.dead)
        for kind, detail in (*metadata_faults(self._store.head(entry.key), contents), *place_faults(entry, contents)):
            report.problem(kind, entry.key, detail)
        in_rows = list(row_faults(entry, contents))
        for kind, detail in (*count_faults(contents), *in_rows, *self._one_table(entry, contents)):
            report.problem(kind, entry.key, detail)
        ids.files += 1
        ids.sound = ids.sound and not in_rows
        ids.columns.append(contents.rows["record_id"])
        if contents.dead:
            dead_ids = [f"{self._stream}/{entry.shard_id}/{position}" for position in contents.dead]
            ids.columns.append(pa.chunked_array([pa.array(dead_ids, pa.string())]))
        self._letters(entry, contents)
        self._of_sinks.held_against(entry.list, contents)

    def _one_table(self, entry: TableEntry, contents: Contents) -> Iterator[tuple[str, str]]:
        """Check that all files are of one stream and have the same columns."""
        streams = contents.streams
        self._stream = self._stream or min(streams, default="")
        if streams - {self._stream}:
            yield "identity", f"is of stream {min(streams - {self._stream})!r}, other files are of {self._stream!r}"
        self._columns = self._columns or (entry.key, contents.columns)
        if not contents.columns.equals(self._columns[1]):
            yield (
                "columns",
                f"has other columns than {self._columns[0]}: a table with other columns needs its own url",
            )

    def _letters(self, entry: TableEntry, contents: Contents) -> None:
        if self._dead_letters is None or not contents.dead:
            return
        if not contents.footer[LETTERS_SHA256]:
            self._report.problem("dead-letters", entry.key, "names no dead letters: the first Parquet sink has them")
            return
        found = letters_audit.found_letters(self._dead_letters, entry.key, contents.footer)
        plain = letters_key(entry.key)
        if found is None:
            self._report.problem(
                "dead-letters",
                entry.key,
                f"{plain} does not hold the {len(contents.dead)} that it names. The shard's next owner writes them, or "
                f"run penstock audit --repair; it takes them from {contents.footer[WRITER]}.jsonl in …{STAGED}",
            )
            return
        self._named.add(found[0])
        for fault in letters_audit.faults(entry.key, contents, found[1]):
            self._report.problem("dead-letters", found[0], fault)


def _distinct(name: str, ids: _Ids, report: AuditReport) -> None:
    if not ids.may_repeat:
        return
    every = pa.chunked_array([chunk for column in ids.columns for chunk in column.chunks], pa.string())
    twice = len(every) - pc.count_distinct(every, mode="all").as_py()
    if twice:
        counts = every.value_counts()
        example = next(entry["values"].as_py() for entry in counts if entry["counts"].as_py() > 1)
        report.problem("duplicate", name, f"{counted(twice, 'record')} more than once, among them {example}")


def repair(store: ObjectStore, ledger: Ledger) -> int:
    """Write the dead letters that a crash left unwritten, as their shard's next owner would. Return how many files had
    any.

    :raises Fatal: the staged copy of a file's dead letters is gone or changed.
    """
    keys = [key for key in store.list("") if TABLE_FILE.fullmatch(key)]
    found = [(key, metadata) for key in keys if is_ours(metadata := store.head(key) or {})]
    return sum(ledger.complete(key, metadata) for key, metadata in found)
