"""Sample values for every column type, to try a schema out: the smallest, null, and the largest."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa

_DAYS = (-719_162, 2_932_896)
"""First day of year 1 and last day of year 9999, in days since 1970."""

_DAY = {"s": 86_400, "ms": 86_400 * 10**3, "us": 86_400 * 10**6, "ns": 86_400 * 10**9}
_LOWEST, _HIGHEST = -(2**63) + 1, 2**63 - 1


def table(schema: pa.Schema) -> pa.Table:
    """Return a table of three rows for the schema; where a field is not nullable, the largest value replaces null."""
    return pa.Table.from_arrays([pa.array(_of(field), field.type) for field in schema], schema=schema)


def _of(field: pa.Field) -> list[Any]:
    low, none, high = _values(field.type)
    return [low, none if field.nullable else high, high]


def _values(kind: pa.DataType) -> list[Any]:
    types = pa.types
    if types.is_map(kind):
        low, _, high = _values(kind.key_type)
        items = _of(kind.item_field)
        return [[(low, items[0]), (high, items[1])], None, []]
    if types.is_fixed_size_list(kind):
        values = _of(kind.value_field)
        return [[values[place % 3] for place in range(kind.list_size)], None, values[2:] * kind.list_size]
    if types.is_list(kind) or types.is_large_list(kind):
        return [_of(kind.value_field), None, []]
    if types.is_struct(kind):
        fields = [kind.field(place) for place in range(kind.num_fields)]
        rows = [
            dict(zip([field.name for field in fields], row, strict=True)) for row in zip(*map(_of, fields), strict=True)
        ]
        return [rows[0], None, rows[1]]
    return _leaf(kind)


def _leaf(kind: pa.DataType) -> list[Any]:
    types = pa.types
    if types.is_integer(kind):
        return _ends(kind.bit_width, types.is_signed_integer(kind))
    if types.is_floating(kind):
        return [-1.5, None, 0.25]
    if types.is_boolean(kind):
        return [False, None, True]
    if types.is_decimal(kind):
        low, high = (Decimal((sign, (9,) * kind.precision, -kind.scale)) for sign in (1, 0))
        return [low, None, high]
    if types.is_string(kind) or types.is_large_string(kind):
        return ["", None, "ü\0"]
    if types.is_fixed_size_binary(kind):
        return [b"\0" * kind.byte_width, None, b"\xff" * kind.byte_width]
    if types.is_binary(kind) or types.is_large_binary(kind):
        return [b"", None, b"\0\xff"]
    return _times(kind)


def _ends(bits: int, is_signed: bool) -> list[Any]:
    low = -(2 ** (bits - 1)) if is_signed else 0
    return [low, None, low + 2**bits - 1]


def _times(kind: pa.DataType) -> list[Any]:
    """Times as counts in the type's own unit, within the years 1 to 9999."""
    types = pa.types
    if types.is_date(kind):
        per_day = 1 if types.is_date32(kind) else _DAY["ms"]
        return [_DAYS[0] * per_day, None, _DAYS[1] * per_day]
    if types.is_time(kind):
        return [0, None, _DAY[kind.unit] - 1]
    if types.is_timestamp(kind):
        low, high = _DAYS[0] * _DAY[kind.unit], (_DAYS[1] + 1) * _DAY[kind.unit] - 1
        return [max(low, _LOWEST), None, min(high, _HIGHEST)]
    return [-_DAY["s"], None, _DAY["s"]]
