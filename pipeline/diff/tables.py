"""Compares two tables: shard by shard and day by day, side by side, so that memory does not grow with the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.diff.values import Values, comparable
from pipeline.diff.windows import ID, Side, TableFile, opened, windows
from pipeline.errors import UserError
from pipeline.record import Position
from pipeline.stores.base import ObjectStore
from pipeline.table.footer import DEAD, REDRIVEN
from pipeline.table.names import REDRIVEN_FILE, TABLE_FILE, first_of

KEYS = (ID, "shard_id", "sequence_number", "sub_sequence_number")
"""Columns that identify a record."""

IGNORED = ("processed_at", "model_version")
"""Columns that differ whenever a record is processed again."""

ANYWHERE = Position(0, 0)
"""A file of redriven rows may begin anywhere: its key does not say where."""

KINDS = ("missing", "extra", "changed")

EXAMPLES = 5
"""How many examples of each kind and of each column are kept."""

TOLERANCE = 1e-5
"""More than another batch size changes in a sum of 32-bit floats."""


@dataclass(frozen=True, slots=True)
class DiffOptions:
    """What to compare. ``columns``: only these; empty: all that both tables have, except ``ignore`` and
    :data:`IGNORED`.
    """

    tolerance: float = TOLERANCE
    columns: Sequence[str] = ()
    ignore: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """``kind``: missing, extra or changed. ``column`` and both values are those of a changed record."""

    kind: str
    record_id: str
    column: str | None = None
    a: Any = None
    b: Any = None


@dataclass(slots=True)
class Column:
    """``changed``: number of values that differ. ``largest``: the largest difference of two floats, or None."""

    changed: int = 0
    largest: float | None = None


@dataclass(slots=True)
class Difference:
    """The result. ``missing``: records of A that B does not have; ``extra``: records of B that A does not have.

    ``duplicates``: rows whose record has another row in the same table. ``dead``: dead letters that each table's files
    name and that have no redriven row; a missing record may be one of them. ``types``: columns whose values cannot be
    compared.
    """

    rows: dict[str, int] = field(default_factory=lambda: {"a": 0, "b": 0})
    dead: dict[str, int] = field(default_factory=lambda: {"a": 0, "b": 0})
    duplicates: dict[str, int] = field(default_factory=lambda: {"a": 0, "b": 0})
    matched: int = 0
    missing: int = 0
    extra: int = 0
    changed: int = 0
    columns: dict[str, Column] = field(default_factory=dict)
    only_a: list[str] = field(default_factory=list)
    only_b: list[str] = field(default_factory=list)
    types: dict[str, tuple[str, str]] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether both tables have the same records with the same values."""
        rows = self.missing or self.extra or self.changed or any(self.duplicates.values())
        return not (rows or self.only_a or self.only_b or self.types)


def compare(
    a: ObjectStore,
    b: ObjectStore,
    options: DiffOptions | None = None,
    names: tuple[str, str] = ("table A", "table B"),
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Difference:
    """Compare the tables below two stores. ``tell`` is called with the number of files read and their total.

    ``names``: the tables' urls, for messages.

    :raises UserError: a table has no files, a file cannot be read, or neither table has a column of ``options``.
    """
    options = options or DiffOptions()
    files = {"a": _files(a, names[0]), "b": _files(b, names[1])}
    found = Difference()
    columns = _columns(found, options, _schema(a, files["a"]), _schema(b, files["b"]))
    comparison = _Comparison(found, columns, options.tolerance)
    total = sum(len(each) for days in files.values() for each in days.values())
    read = 0

    def heard(side: str, key: str, footer: dict[str, str]) -> None:
        nonlocal read
        read += 1
        found.dead[side] += int(footer.get(DEAD, "0")) - int(footer.get(REDRIVEN, "0"))
        tell(read, total)

    for day in sorted({*files["a"], *files["b"]}):
        sides = (Side(s, files[n].get(day, ()), columns, partial(heard, n)) for n, s in (("a", a), ("b", b)))
        for window in windows(*sides):
            comparison.window(*window)
    found.examples.sort(key=lambda example: (KINDS.index(example.kind), [*columns, None].index(example.column)))
    return found


def _files(store: ObjectStore, what: str) -> dict[tuple[str, str], list[TableFile]]:
    """Files by shard and day, which are the same for a record in every table."""
    found: dict[tuple[str, str], list[TableFile]] = {}
    for key in store.list(""):
        if match := TABLE_FILE.fullmatch(key):
            found.setdefault((match["shard"], match["day"]), []).append(TableFile(key, first_of(key)))
        elif match := REDRIVEN_FILE.fullmatch(key):
            found.setdefault((match["shard"], match["day"]), []).append(TableFile(key, ANYWHERE))
    if not found:
        raise UserError(f"{what} has no files of a table. Name the url of a Parquet sink, without dt=")
    return found


def _schema(store: ObjectStore, files: dict[tuple[str, str], list[TableFile]]) -> pa.Schema:
    """Return the columns of one of the files; all files of a table have the same."""
    return opened(store, next(iter(files.values()))[0].key).schema_arrow


def _columns(found: Difference, options: DiffOptions, a: pa.Schema, b: pa.Schema) -> list[str]:
    """Return the columns to compare; note those that only one table has, or that cannot be compared."""
    unknown = {*options.columns, *options.ignore} - {*a.names, *b.names}
    if unknown:
        raise UserError(f"neither table has a column {min(unknown)!r}. They have {', '.join(_union(a, b))}")
    wanted = [*options.columns] or [name for name in _union(a, b) if name not in (*options.ignore, *IGNORED)]
    wanted = [name for name in wanted if name not in KEYS]
    found.only_a = [name for name in wanted if name not in b.names]
    found.only_b = [name for name in wanted if name not in a.names]
    both = [name for name in wanted if name in a.names and name in b.names]
    found.types = {
        name: (str(a.field(name).type), str(b.field(name).type))
        for name in both
        if not comparable(a.field(name).type, b.field(name).type)
    }
    return [name for name in both if name not in found.types]


def _union(a: pa.Schema, b: pa.Schema) -> list[str]:
    return list(dict.fromkeys([*a.names, *b.names]))


class _Comparison:
    """Adds up the results of windows."""

    def __init__(self, found: Difference, columns: Sequence[str], tolerance: float) -> None:
        self._found = found
        self._values = {name: Values(tolerance) for name in columns}
        found.columns = {name: Column() for name in columns}
        self._shown: dict[str, int] = {}

    def window(self, a: pa.Table, b: pa.Table) -> None:
        """Compare two tables' rows of the same range."""
        found = self._found
        for side, rows in (("a", a), ("b", b)):
            found.rows[side] += rows.num_rows
            found.duplicates[side] += rows.num_rows - len(pc.unique(rows[ID]))
        if not a[ID].equals(b[ID]):
            a, b = self._matched(a, b)
        found.matched += a.num_rows
        if a.num_rows:
            self._compare(a, b)

    def _matched(self, a: pa.Table, b: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Return the records that both have, in A's order; count the others."""
        found = self._found
        in_b = pc.index_in(a[ID], value_set=b[ID])
        missing = a[ID].filter(in_b.is_null())
        extra = b[ID].filter(pc.invert(pc.is_in(b[ID], value_set=a[ID])))
        found.missing += len(missing)
        found.extra += len(extra)
        for kind, ids in (("missing", missing), ("extra", extra)):
            for record_id in self._some(kind, ids):
                found.examples.append(Example(kind, record_id))
        return a.filter(in_b.is_valid()), b.take(in_b.drop_null())

    def _compare(self, a: pa.Table, b: pa.Table) -> None:
        changed = np.zeros(a.num_rows, np.bool_)
        for name, values in self._values.items():
            left, right = a[name].combine_chunks(), b[name].combine_chunks()
            mask = values.differ(left, right)
            column = self._found.columns[name]
            column.changed += int(mask.sum())
            column.largest = values.largest
            changed |= mask
            rows = np.flatnonzero(mask)
            for place in self._some(f"changed {name}", rows):
                record_id = a[ID][int(place)].as_py()
                values_of = left[int(place)].as_py(), right[int(place)].as_py()
                self._found.examples.append(Example("changed", record_id, name, *values_of))
        self._found.changed += int(changed.sum())

    def _some(self, kind: str, of: Any) -> Iterator[Any]:
        """Yield as many as examples of the kind are still needed."""
        more = max(0, EXAMPLES - self._shown.get(kind, 0))
        taken = of[:more].to_pylist() if hasattr(of, "to_pylist") else of[:more]
        self._shown[kind] = self._shown.get(kind, 0) + len(taken)
        yield from taken
