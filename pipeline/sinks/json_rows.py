"""Encodes rows of a table as JSON objects, for sinks that send them one by one."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import one_line

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


@dataclass(frozen=True, slots=True)
class Unwritable:
    """A row that JSON cannot hold, and why.

    ``reason`` may quote the row and is for its dead letter only. ``told`` says the same without quoting, for logs.
    """

    reason: str
    told: str


def encode_each(table: pa.Table) -> list[bytes | Unwritable]:
    """As :func:`encode`, but a row that JSON cannot hold becomes :class:`Unwritable` and does not affect other rows."""
    try:
        return list(encode(table))
    except Exception:  # noqa: BLE001  # pyarrow's, Python's or orjson's own: each row is then encoded alone
        return [_alone(table.slice(row, 1)) for row in range(table.num_rows)]


def _alone(row: pa.Table) -> bytes | Unwritable:
    for name in row.column_names:
        try:
            encode(row.select([name]))
        except Exception as error:  # noqa: BLE001  # as above
            why = f"column '{name}' has a {row.schema.field(name).type} that JSON cannot hold"
            return Unwritable(f"{why}: {one_line(error)}", f"{why} ({type(error).__name__})")
    return encode(row)[0]


def encode(table: pa.Table) -> list[bytes]:
    """Encode each row as one JSON object with the table's columns, in their order.

    Bytes become base64, times ISO 8601 in UTC, decimals strings, durations seconds. NaN and infinities become null,
    since JSON has no form for them. A 32-bit float is written with the fewest digits that read back the same: half the
    size of a double.

    :raises Exception: of pyarrow, Python or orjson: some row cannot be encoded.
    """
    columns = [_values(column) for column in table.columns]
    names = table.column_names
    return [orjson.dumps(dict(zip(names, row, strict=True)), _plain, _OPTIONS) for row in zip(*columns, strict=True)]


def _values(column: pa.ChunkedArray) -> Sequence[Any]:
    """Numpy's values for columns of 32-bit floats, which plain Python would widen; else plain Python's."""
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.tz not in {None, "UTC"}:
        return _values(column.cast(pa.timestamp(kind.unit, "UTC")))
    if pa.types.is_float32(kind) and not column.null_count:
        return list(column.to_numpy())
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if is_list and pa.types.is_float32(kind.value_type) and not column.null_count and len(column):
        values = pc.list_flatten(column)
        if not values.null_count:
            return np.split(values.to_numpy(), np.cumsum(pc.list_value_length(column).to_numpy())[:-1])
    return column.to_pylist()  # type: ignore[no-any-return]  # pyarrow ships no types


def _plain(value: Any) -> Any:
    """Convert Arrow's other types, which orjson does not know, to Python's."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if hasattr(value, "total_seconds"):
        return value.total_seconds()
    if hasattr(value, "to_pydatetime"):
        return value.to_pydatetime(warn=False)
    return str(value)
