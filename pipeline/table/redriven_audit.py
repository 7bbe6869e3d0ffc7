"""Audits the files of redriven rows: compares them with the dead letters that the table's files name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from pipeline.errors import counted, one_line
from pipeline.record import Position
from pipeline.stores.base import ObjectStore
from pipeline.table import dead_positions
from pipeline.table.contents import UNREADABLE, Contents, FileChanged, read_redriven
from pipeline.table.file_audit import FileFaults, TableEntry, identity_faults, metadata_faults, value_faults
from pipeline.table.footer import KEY, REDRIVEN, REDRIVEN_POSITIONS, WRITER
from pipeline.table.names import REDRIVEN_FILE, is_day

NOWHERE = Position(-1, 0)


def is_redriven_file(key: str) -> bool:
    """Whether a file of redriven rows may have this key."""
    match = REDRIVEN_FILE.fullmatch(key)
    return match is not None and is_day(match["day"])


@dataclass(slots=True)
class RedrivenFile:
    """One file of redriven rows. ``contents``: None if it cannot be read. ``faults``: kinds and details."""

    entry: TableEntry
    contents: Contents | None = None
    faults: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Redriven:
    """All files of redriven rows of a table, by shard and day, with the dead letters that they may belong to."""

    files: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _dead: dict[tuple[str, str], set[Position]] = field(default_factory=dict)
    _unread: set[str] = field(default_factory=set)

    @classmethod
    def among(cls, keys: Iterable[str]) -> Redriven:
        """Return those among the keys."""
        found = cls()
        for key in sorted(keys):
            if (match := REDRIVEN_FILE.fullmatch(key)) is not None and is_day(match["day"]):
                found.files.setdefault((match["list"], match["day"]), []).append(key)
        return found

    def dead(self, entry: TableEntry, positions: Sequence[Position]) -> None:
        """Note that a file of the list names these dead letters."""
        if (entry.list, entry.day) in self.files:
            self._dead.setdefault((entry.list, entry.day), set()).update(positions)

    def unread(self, entry: TableEntry) -> None:
        """Note that a file of the list cannot be read, so that not all its dead letters are known."""
        self._unread.add(entry.list)

    def walk(self, store: ObjectStore) -> Iterator[tuple[str, RedrivenFile]]:
        """Yield every file and what is wrong with it. Memory holds one file, and the positions of a day's redriven
        rows.
        """
        for (name, day), keys in self.files.items():
            held: set[Position] = set()
            for number, key in enumerate(keys):
                yield key, self._file(store, TableEntry(key, name, name.partition("-")[2], day, NOWHERE), number, held)

    def _file(self, store: ObjectStore, entry: TableEntry, number: int, held: set[Position]) -> RedrivenFile:
        found = RedrivenFile(entry)
        match = REDRIVEN_FILE.fullmatch(entry.key)
        if match is not None and int(match["number"]) != number:
            found.faults.append(("gap", f"is number {int(match['number'])}, but there are {number} files before it"))
        try:
            found.contents = read_redriven(store.get(entry.key))
            found.faults += metadata_faults(store.head(entry.key), found.contents, (REDRIVEN, WRITER))
            found.faults += _own_faults(entry, found.contents)
            found.faults += self._of_letters(entry, found.contents, held)
            held.update(found.contents.positions)
        except FileChanged as error:
            found.faults.append(("changed", f"{error}. Restore it from a copy"))
        except UNREADABLE as error:
            found.faults.append(("unreadable", one_line(error)))
        return found

    def _of_letters(self, entry: TableEntry, contents: Contents, held: set[Position]) -> FileFaults:
        positions = set(contents.positions)
        if twice := positions & held:
            yield "duplicate", f"{counted(len(twice), 'record')} with a redriven row already, among them {min(twice)}"
        alive = positions - self._dead.get((entry.list, entry.day), set())
        if alive and entry.list not in self._unread:
            yield (
                "duplicate",
                f"{counted(len(alive), 'record')} without a dead letter in the table, among them {min(alive)}",
            )


def _own_faults(entry: TableEntry, contents: Contents) -> FileFaults:
    if (written_as := contents.footer.get(KEY)) != entry.key:
        yield "range", f"was written as {written_as}"
    positions = contents.positions
    if contents.footer[REDRIVEN] != str(len(positions)):
        yield "rows", f"has {counted(len(positions), 'row')}, but its footer says {contents.footer[REDRIVEN]}"
    if any(later <= earlier for earlier, later in pairwise(positions)):
        yield "order", "rows are not in sequence order"
    elif contents.footer.get(REDRIVEN_POSITIONS) != dead_positions.encoded(positions):
        yield "metadata", "its footer names other records than those of its rows"
    if positions:
        yield from identity_faults(entry, contents.rows)
        yield from value_faults(entry, contents)
