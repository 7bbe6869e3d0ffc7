"""What the common readers of Parquet make of a table's columns: checked before the first file is written.

What no reader must meet is refused; what some of them cannot read is told, each by its name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import pyarrow as pa

from pipeline.errors import ConfigError

SPARK_FORBIDS = " ,;{}()\n\t="
"""Spark's own list: it refuses to read a table with a name that has one of these."""

FOLDERS = ("dt",)
"""Readers make columns of the folders' names."""

TIME64_NS = "times of nanoseconds, which pandas cannot read"
KNOW_NO_CASE = "to Spark and DuckDB, which know no case"
OUTPUT = "model.output_schema"
"""Names the culprit in an error, as the keys of the configuration do."""
CARRY = "model.carry"

_RENAME = {OUTPUT: "Rename it in output_schema.", CARRY: "Rename it in the payload, or carry it no more."}


def check(rows: pa.Schema, own: Sequence[str], carried: Collection[str] = ()) -> None:
    """``rows``: the columns of ``model.carry``, which are ``carried``, and the model's; ``own``: Penstock's.

    :raises ConfigError: its key says whose column it is.
    """
    taken = {name.casefold(): "is Penstock's own" for name in own}
    taken |= {name.casefold(): "is one of the table's folders" for name in FOLDERS}
    for field in rows:
        name, whose = field.name, CARRY if field.name in carried else OUTPUT
        if why := taken.get(name.casefold()):
            raise _wrong(whose, f"column {name!r} {why} {KNOW_NO_CASE}")
        if name.startswith("_"):
            raise _wrong(whose, f"column {name!r} begins with _, which readers of Parquet skip")
        _check_names([name], "column", whose)
        _check_parts(field, whose)
        taken[name.casefold()] = "is there twice"


def _check_parts(field: pa.Field, whose: str) -> None:
    for path, kind in _parts(field.name, field.type):
        if pa.types.is_struct(kind):
            names = [kind.field(place).name for place in range(kind.num_fields)]
            _check_names(names, f"in {path}, the field", whose)
            if twice := {name for name in names if [each.casefold() for each in names].count(name.casefold()) > 1}:
                raise _wrong(whose, f"{path} has the field {min(twice)!r} twice {KNOW_NO_CASE}")
        if kind == pa.time64("ns"):
            raise ConfigError(whose, f"column {path!r} holds {TIME64_NS}", 'Write pa.time64("us").')


def _wrong(whose: str, problem: str) -> ConfigError:
    return ConfigError(whose, problem, _RENAME[whose])


def warnings(rows: pa.Schema) -> list[str]:
    """A line for each column that some reader cannot read, or reads as something else."""
    return [
        f"column {path!r} has the type {kind}: {trouble}"
        for field in rows
        for path, kind in _parts(field.name, field.type)
        if (trouble := _trouble(kind))
    ]


def _check_names(names: Sequence[str], what: str, whose: str) -> None:
    for name in names:
        if not name:
            raise ConfigError(whose, f"{what} '' has no name, and Spark, Athena and DuckDB want one", "Name it.")
        if any(letter in SPARK_FORBIDS or not letter.isprintable() for letter in name):
            raise _wrong(whose, f"{what} {name!r} has a character that Spark and Athena cannot read")


def _parts(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    yield path, kind
    for place in range(kind.num_fields):
        inner = kind.field(place)
        yield from _parts(f"{path}.{inner.name}" if pa.types.is_struct(kind) else path, inner.type)


def _trouble(kind: pa.DataType) -> str:
    types = pa.types
    if types.is_float16(kind):
        return "Spark and Athena cannot read it, fastparquet reads bytes; float32 is read by all"
    if types.is_timestamp(kind) and kind.unit == "ns":
        return "Spark cannot read it, Athena not to the nanosecond; microseconds are read by all"
    if types.is_time(kind):
        return "Spark and Athena cannot read it, fastparquet reads a number; a string or a number is read by all"
    if types.is_duration(kind):
        return "only pandas, pyarrow and Polars know durations, all others read a number"
    if types.is_decimal(kind) and kind.precision > 38:
        return "Spark, Athena and Polars cannot read it, DuckDB rounds it to a double; 38 digits are read by all"
    if types.is_uint64(kind):
        return "Athena cannot read it, Spark reads a decimal; int64 is read by all"
    if _is_list(kind) and _pandas_knows_no_list_of(kind.value_type):
        return f"pandas cannot read lists of {kind.value_type}; binary and decimal128 are read by all"
    return ""


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _pandas_knows_no_list_of(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_binary(kind) or pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind))
