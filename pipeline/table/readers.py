"""What the common readers of Parquet make of a table's columns: checked before the first file is written.

What no reader must meet is refused; what some of them cannot read is told, each by its name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pyarrow as pa

from pipeline.errors import ConfigError
from pipeline.table import column_names
from pipeline.table.column_names import KNOW_NO_CASE, OUTPUT, PASSTHROUGH, check_letters, wrong

TIME64_NS = "times of nanoseconds, which pandas cannot read"


def check(rows: pa.Schema, passthrough: Collection[str] = ()) -> None:
    """``rows``: the columns of ``model.passthrough``, which are ``passthrough``, and the model's.

    :raises ConfigError: its key says whose column it is.
    """
    column_names.check(rows.names, passthrough)
    for field in rows:
        _check_parts(field, PASSTHROUGH if field.name in passthrough else OUTPUT)


def _check_parts(field: pa.Field, whose: str) -> None:
    for path, kind in _parts(field.name, field.type):
        if pa.types.is_struct(kind):
            names = [kind.field(place).name for place in range(kind.num_fields)]
            check_letters(names, f"in {path}, the field", whose)
            if twice := {name for name in names if [each.casefold() for each in names].count(name.casefold()) > 1}:
                raise wrong(whose, f"{path} has the field {min(twice)!r} twice {KNOW_NO_CASE}")
        if kind == pa.time64("ns"):
            raise ConfigError(whose, f"column {path!r} holds {TIME64_NS}", 'Write pa.time64("us").')


def warnings(rows: pa.Schema) -> list[str]:
    """A line for each column that some reader cannot read, or reads as something else."""
    return [
        f"column {path!r} has the type {kind}: {trouble}"
        for field in rows
        for path, kind in _parts(field.name, field.type)
        if (trouble := _trouble(kind))
    ]


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
