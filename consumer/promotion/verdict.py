"""Compares the answers of an old and a new model, and lists the reasons against the new one. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from consumer.promotion.answers import Answers
from pipeline.diff.tables import TOLERANCE
from pipeline.diff.values import Values, comparable
from pipeline.errors import RefusedError, UserError, counted

EXAMPLES = 3
"""How many examples of each column are kept."""


@dataclass(frozen=True, slots=True)
class PromotionCriteria:
    """``tolerances``: for single columns, instead of ``tolerance``. ``ignore``: columns whose values are not compared.
    ``max_changed``: maximum share of a column's values that may differ. ``least_speed``: minimum throughput of the new
    model, as a share of the old one's; 0: any. ``least_compared``: minimum share of records with an old row."""

    tolerance: float = TOLERANCE
    tolerances: Mapping[str, float] = field(default_factory=dict)
    ignore: frozenset[str] = frozenset()
    max_changed: float = 0.0
    least_speed: float = 0.8
    least_compared: float = 0.5


@dataclass(frozen=True, slots=True)
class Changed:
    """A value that differs. ``number``: of the golden record."""

    number: int
    column: str
    old: Any
    new: Any


@dataclass(slots=True)
class ColumnResult:
    """The comparison of one column: ``values`` were compared, and ``changed`` of them differ by more than
    ``tolerance``. ``tolerance`` and ``largest``, the largest difference, are None for a column without floats."""

    values: int
    changed: int
    tolerance: float | None
    largest: float | None

    @property
    def share(self) -> float:
        """The share of values that differ."""
        return self.changed / self.values if self.values else 0.0


@dataclass(slots=True)
class PromotionResult:
    """The result. ``problems``: one line each; without any, the new model may replace the old one. ``compared``:
    records with an old row and a new one, of ``records``. ``newly_dead``: records with an old row and a new dead
    letter. ``newly_rows``: the reverse."""

    records: int
    compared: int
    columns: dict[str, ColumnResult]
    changes: list[str]
    newly_dead: list[int]
    newly_rows: list[int]
    unanswered: int
    examples: list[Changed]
    problems: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is no value of the old model to judge the new one by."""
        return not self.newly_dead and (not self.compared or not self.columns)


def column_changes(old: pa.Schema, new: pa.Schema) -> list[str]:
    """Return how the columns differ, one text each: names, types, order. Empty: one table can have rows of both."""
    kinds = {field.name: field.type for field in old}
    found = [f"{name} is gone" for name in old.names if name not in new.names]
    found += [f"{each.name} ({each.type}) is new" for each in new if each.name not in kinds]
    found += [
        f"{each.name} is {each.type}, was {kinds[each.name]}"
        for each in new
        if each.name in kinds and not _stored_alike(kinds[each.name], each.type)
    ]
    if not found and old.names != new.names:
        found.append(f"the order is {', '.join(new.names)}, was {', '.join(old.names)}")
    return found


def refuse_other_columns(changes: list[str], url: str | None) -> None:
    """Check the columns. :raises RefusedError: both models write to the table at ``url``, and their columns differ."""
    if changes and url is not None:
        raise RefusedError(
            f"the columns of {url} would change: {'; '.join(changes)}. All files of a table have the same columns, and "
            "`penstock run` would not start. Set a new sink.url in the new configuration; for the whole stream in it, "
            "a new stream.application as well"
        )


def compare(old: Answers, new: Answers, criteria: PromotionCriteria) -> PromotionResult:
    """Compare value by value the rows that both have, and judge.

    :raises UserError: ``criteria`` names a column that neither has.
    """
    both = sorted({*old.numbers} & {*new.numbers})
    found = PromotionResult(
        records=len({*old.numbers, *old.dead, *new.numbers, *new.dead}),
        compared=len(both),
        columns={},
        changes=column_changes(old.columns, new.columns),
        newly_dead=[number for number in old.numbers if number in new.dead],
        newly_rows=[number for number in new.numbers if number in old.dead],
        unanswered=sum(number not in old.numbers and number not in old.dead for number in (*new.numbers, *new.dead)),
        examples=[],
    )
    left, right = (_rows_of(each, both) for each in (old, new))
    for name in _compared(old.columns, new.columns, criteria):
        _compare_column(found, name, both, left[name], right[name], criteria)
    found.problems = list(_problems(found, old, new, criteria))
    return found


def _compared(old: pa.Schema, new: pa.Schema, criteria: PromotionCriteria) -> list[str]:
    if unknown := {*criteria.tolerances, *criteria.ignore} - {*old.names, *new.names}:
        names = ", ".join(dict.fromkeys([*old.names, *new.names]))
        raise UserError(f"neither model has a column {min(unknown)!r}. They have {names}")
    shared = [name for name in new.names if name in old.names and name not in criteria.ignore]
    return [name for name in shared if comparable(old.field(name).type, new.field(name).type)]


def _rows_of(answers: Answers, numbers: list[int]) -> pa.Table:
    place = {number: at for at, number in enumerate(answers.numbers)}
    return answers.rows.take(pa.array([place[number] for number in numbers], pa.int64()))


def _compare_column(
    found: PromotionResult,
    name: str,
    numbers: list[int],
    old: pa.ChunkedArray,
    new: pa.ChunkedArray,
    criteria: PromotionCriteria,
) -> None:
    tolerance = criteria.tolerances.get(name, criteria.tolerance)
    values = Values(tolerance)
    left, right = _whole(old), _whole(new)
    mask = values.differ(left, right)
    has_floats = "float" in str(left.type) or "double" in str(left.type)
    found.columns[name] = ColumnResult(
        len(numbers), int(mask.sum()), tolerance if has_floats else None, values.largest if has_floats else None
    )
    for place in np.flatnonzero(mask)[:EXAMPLES].tolist():
        found.examples.append(Changed(numbers[place], name, left[place].as_py(), right[place].as_py()))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _problems(found: PromotionResult, old: Answers, new: Answers, criteria: PromotionCriteria) -> Iterator[str]:
    if len(old.numbers) < criteria.least_compared * found.records:
        yield (
            f"only {len(old.numbers):,} of {found.records:,} records have an old row "
            f"({len(old.numbers) / found.records:.1%}; --least-compared asks for {criteria.least_compared:.0%}). "
            "Use records that have rows"
        )
    if found.newly_dead:
        first = found.newly_dead[0]
        yield (
            f"{counted(len(found.newly_dead), 'record')} with an old row, but with a dead letter now, such as record "
            f"{first}: "
            f"{new.dead[first].kind}: {new.dead[first].reason}"
        )
    for name, column in found.columns.items():
        if column.share > criteria.max_changed:
            yield (
                f"column {name}: {column.changed:,} of {column.values:,} values differ ({column.share:.1%}; "
                f"--max-changed allows {criteria.max_changed:.1%})"
            )
    if old.rate and new.rate is not None and new.rate < criteria.least_speed * old.rate:
        yield (
            f"the new model is slower: {new.rate:,.1f} records a second instead of {old.rate:,.1f}, "
            f"{new.rate / old.rate:.0%} (--least-speed asks for {criteria.least_speed:.0%})"
        )
    is_other = found.changes or any(column.changed for column in found.columns.values()) or found.newly_dead
    if is_other and (same := {*old.versions} & {*new.versions}):
        yield (
            f"both have the model.version {min(same)!r}, and their answers differ, so their rows could not be told "
            "apart. Set a new model.version"
        )


def _stored_alike(a: pa.DataType, b: pa.DataType) -> bool:
    """Whether Parquet stores both as the same type; it names the values of lists differently."""
    if pa.types.is_list(a) and pa.types.is_list(b):
        return _stored_alike(a.value_type, b.value_type)
    if pa.types.is_struct(a) and pa.types.is_struct(b):
        fields = [[kind.field(place) for place in range(kind.num_fields)] for kind in (a, b)]
        return [each.name for each in fields[0]] == [each.name for each in fields[1]] and all(
            _stored_alike(left.type, right.type) for left, right in zip(*fields, strict=True)
        )
    return bool(a.equals(b))
