"""Checks, before the first file is written, how the common readers of Parquet read a table's columns.

A column that no reader should see is refused. A column that only some of them cannot read causes a warning that names
them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pyarrow as pa

from pipeline.errors import ConfigError
from pipeline.table import column_names
from pipeline.table.column_names import KNOW_NO_CASE, OUTPUT, PASSTHROUGH, check_letters, wrong

TIME64_NS = "times in nanoseconds, which pandas cannot read"


def check(rows: pa.Schema, passthrough: Collection[str] = ()) -> None:
    """Check the names of columns and of their fields. ``rows`` has the columns of ``model.passthrough`` (named in
    ``passthrough``) and the model's.

    :raises ConfigError: its key says whether the model or the payload brought the column.
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
    """Return one line for each column that some reader cannot read, or reads as something else."""
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
        return "Spark and Athena cannot read it, fastparquet reads bytes; every reader can read float32"
    if types.is_timestamp(kind) and kind.unit == "ns":
        return "Spark cannot read it, Athena loses the nanoseconds; every reader can read microseconds"
    if types.is_time(kind):
        return "Spark and Athena cannot read it, fastparquet reads a number; every reader can read a string or a number"
    if types.is_duration(kind):
        return "only pandas, pyarrow and Polars support durations, all others read a number"
    if types.is_decimal(kind) and kind.precision > 38:
        return "Spark, Athena and Polars cannot read it, DuckDB rounds it to a double; every reader can read 38 digits"
    if types.is_uint64(kind):
        return "Athena cannot read it, Spark reads a decimal; every reader can read int64"
    if _is_list(kind) and _pandas_knows_no_list_of(kind.value_type):
        return f"pandas cannot read lists of {kind.value_type}; every reader can read binary and decimal128"
    return ""


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _pandas_knows_no_list_of(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_binary(kind) or pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind))
