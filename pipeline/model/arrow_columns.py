"""Converts a column of values that a model returned to an Arrow array, nested types included: exactly, or not at all.

Whole columns are converted at once. Lists become one array of all their values, structs one array for each field.
Values are examined one by one only where they are neither plain Python nor numpy.

``pyarrow.compute`` is imported where it is used: it takes a quarter of the time in which a replica's imports are done,
and most models never need it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from pipeline.model import Reject, arrow_leaves
from pipeline.model.containers import elements, fields_of, listed
from pipeline.model.scalars import NotFinite as Infinite
from pipeline.model.scalars import ValueRefused, is_missing, is_nan, named

ColumnValues = Any
"""A column's values: a list, tuple, numpy array or Arrow array, as :func:`pipeline.model.containers.elements`
returns.
"""


Missing = Literal["null", "reject"]
NotFiniteRule = Literal["keep", "null", "reject"]


@dataclass(frozen=True, slots=True)
class Rules:
    """How special values are treated.

    ``missing``: a missing value becomes ``null``, or the record is rejected (``reject``). ``not_finite``: in columns of
    floats, NaN and infinities are kept (``keep``), become null (``null``), or the record is rejected (``reject``).
    """

    missing: Missing
    not_finite: NotFiniteRule


AS_THEY_ARE = Rules("null", "keep")


def column(values: ColumnValues, field: pa.Field, rules: Rules = AS_THEY_ARE) -> pa.Array:
    """Convert ``values`` to an array of the field's type.

    :raises ValueRefused: a value does not fit the type. pyarrow's own errors mean the same.
    :raises Reject: the model has put one in a value's place.
    """
    if isinstance(values, pa.Array):
        values.validate(full=True)
    return _column(values, field, rules)


def _column(values: ColumnValues, field: pa.Field, rules: Rules, null_parents: int = 0) -> pa.Array:
    """``null_parents``: how many of the values are null because the struct that they belong to is null."""
    array = _array(values, field.type, rules)
    if array.null_count > null_parents:
        if not field.nullable:
            raise ValueRefused("null, which the output_schema does not allow")
        if rules.missing == "reject":
            raise ValueRefused("a missing value, which model.missing = 'reject' refuses")
    return _judged(array, rules) if pa.types.is_floating(field.type) else arrow_leaves.checked_range(array)


def _judged(array: pa.Array, rules: Rules) -> pa.Array:
    """Apply the rules to NaN and infinities."""
    if rules.not_finite == "keep":
        return array
    if np.isfinite(array.to_numpy(zero_copy_only=False)).all():
        return array
    import pyarrow.compute as pc

    finite = pc.is_finite(array.cast(pa.float32()) if pa.types.is_float16(array.type) else array)
    if pc.all(finite).as_py() in (True, None):  # what is null is NaN for numpy
        return array
    if rules.not_finite == "reject":
        raise Infinite("is not finite")
    return pc.if_else(finite, array, pa.scalar(None, array.type))


def _array(values: ColumnValues, kind: pa.DataType, rules: Rules) -> pa.Array:
    if isinstance(values, np.ndarray) and values.ndim > 1:
        return _of_matrix(values, kind, rules)
    if isinstance(values, pa.Array) and pa.types.is_null(values.type):
        return pa.nulls(len(values), kind)
    if pa.types.is_map(kind):
        return _maps(listed(values), kind, rules)
    if _is_list(kind):
        return _lists(values, kind, rules)
    if pa.types.is_struct(kind):
        return _structs(values, kind, rules)
    known = arrow_leaves.from_numpy(values, kind) if isinstance(values, np.ndarray) else values
    if isinstance(known, pa.Array):
        known = arrow_leaves.from_arrow(known, kind)
        if known is not None:
            return known
    return arrow_leaves.from_list(listed(values), kind)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _of_matrix(values: np.ndarray[Any, Any], kind: pa.DataType, rules: Rules) -> pa.Array:
    """Convert a numpy array of two or more dimensions: each row is a list."""
    if not _is_list(kind):
        raise ValueRefused(f"{named(values)}: an array for each value")
    flat = values.reshape(-1, *values.shape[2:])
    lengths = np.full(len(values), values.shape[1], np.int64)
    return _of_lengths(lengths, None, flat, kind, rules)


def _lists(values: ColumnValues, kind: pa.DataType, rules: Rules) -> pa.Array:
    if isinstance(values, pa.Array) and _is_list(values.type):
        import pyarrow.compute as pc

        missing = values.is_null().to_numpy(zero_copy_only=False)
        lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy().astype(np.int64)
        return _of_lengths(lengths, missing, values.flatten(), kind, rules)
    parts = [_part(value) for value in listed(values)]
    lengths = np.array([0 if part is None else len(part) for part in parts], np.int64)
    missing = np.array([part is None for part in parts], bool)
    return _of_lengths(lengths, missing, _joined([part for part in parts if part is not None]), kind, rules)


def _part(value: Any) -> ColumnValues | None:
    """Return the values of one list; None if the list itself is missing."""
    kind = type(value)
    if kind is list or kind is tuple or (kind is np.ndarray and value.ndim):
        return value
    if is_missing(value) or is_nan(value):
        return None
    if isinstance(value, Reject):
        raise value
    return elements(value)


def _joined(parts: Sequence[ColumnValues]) -> ColumnValues:
    """Concatenate the values of all lists; without touching each value if all are arrays of one type."""
    if parts and all(type(part) is np.ndarray for part in parts):
        shapes = {(part.dtype, part.shape[1:]) for part in parts}
        if len(shapes) == 1:
            return np.concatenate(parts)
    if parts and all(isinstance(part, pa.Array) for part in parts) and len({part.type for part in parts}) == 1:
        return pa.concat_arrays(parts)
    return list(chain.from_iterable(map(listed, parts)))


def _of_lengths(
    lengths: np.ndarray[Any, Any],
    missing: np.ndarray[Any, Any] | None,
    flat: ColumnValues,
    kind: pa.DataType,
    rules: Rules,
) -> pa.Array:
    mask = pa.array(missing) if missing is not None and missing.any() else None
    if pa.types.is_fixed_size_list(kind):
        return _fixed(lengths, missing, mask, flat, kind, rules)
    child = _column(flat, kind.value_field, rules)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    if pa.types.is_large_list(kind):
        return pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), child, type=kind, mask=mask)
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), child, type=kind, mask=mask)


def _fixed(
    lengths: np.ndarray[Any, Any],
    missing: np.ndarray[Any, Any] | None,
    mask: pa.Array | None,
    flat: ColumnValues,
    kind: pa.DataType,
    rules: Rules,
) -> pa.Array:
    """Convert lists of a fixed size. In Arrow, a null list still occupies its places among the values."""
    size = kind.list_size
    present = lengths if missing is None else lengths[~missing]
    if (present != size).any():
        raise ValueRefused(f"a list of {present[present != size][0]} values, not {size}")
    child = _column(flat, kind.value_field, rules)
    if mask is None:
        return pa.FixedSizeListArray.from_arrays(child, type=kind)
    assert missing is not None
    places = np.full((len(missing), size), -1, np.int64)
    places[~missing] = np.arange(len(child)).reshape(-1, size)
    places = places.reshape(-1)
    child = child.take(pa.array(places, mask=places < 0))
    return pa.FixedSizeListArray.from_arrays(child, type=kind, mask=mask)


def _structs(values: ColumnValues, kind: pa.DataType, rules: Rules) -> pa.Array:
    fields = [kind.field(place) for place in range(kind.num_fields)]
    names = [field.name for field in fields]
    if isinstance(values, pa.Array) and pa.types.is_struct(values.type):
        given = [values.type.field(place).name for place in range(values.type.num_fields)]
        _known(given, names)
        parts = dict(zip(given, values.flatten(), strict=True))
        missing = values.is_null().to_numpy(zero_copy_only=False)
        columns = [parts.get(name, pa.nulls(len(values))) for name in names]
    else:
        rows = [_struct(value, names) for value in listed(values)]
        missing = np.array([row is None for row in rows], bool)
        columns = [[None if row is None else row.get(name) for row in rows] for name in names]
    gone = int(missing.sum())
    children = [_column(each, field, rules, gone) for each, field in zip(columns, fields, strict=True)]
    return pa.StructArray.from_arrays(children, fields=fields, mask=pa.array(missing) if gone else None)


def _struct(value: Any, names: Sequence[str]) -> Mapping[Any, Any] | None:
    if type(value) is not dict and (is_missing(value) or is_nan(value)):
        return None
    if isinstance(value, Reject):
        raise value
    fields = fields_of(value)
    if fields is None:
        raise ValueRefused(f"{named(value)} where a mapping is needed")
    _known(fields, names)
    return fields


def _known(given: Any, names: Sequence[str]) -> None:
    """Refuse unknown fields: a field that a value lacks is null, but one that the struct lacks would silently
    vanish.
    """
    for name in given:
        if name not in names:
            raise ValueRefused(f"a field {name!r:.60}, but the struct has only {', '.join(names)}")


def _maps(values: Sequence[Any], kind: pa.DataType, rules: Rules) -> pa.Array:
    pairs = [_pairs(value) for value in values]
    missing = np.array([each is None for each in pairs], bool)
    lengths = np.array([0 if each is None else len(each) for each in pairs], np.int64)
    flat = [pair for each in pairs if each is not None for pair in each]
    keys = _column([key for key, _ in flat], pa.field("key", kind.key_type, nullable=False), rules)
    items = _column([item for _, item in flat], kind.item_field, rules)
    _distinct(keys, np.repeat(np.arange(len(lengths)), lengths))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    offsets = pa.array(starts, pa.int32(), mask=np.append(missing, False))
    return pa.MapArray.from_arrays(offsets, keys, items, type=kind)


def _pairs(value: Any) -> list[Any] | None:
    if is_missing(value) or is_nan(value):
        return None
    if isinstance(value, Reject):
        raise value
    if isinstance(value, pa.MapScalar):
        return list(zip(*value.values.flatten(), strict=True))
    if isinstance(value, Mapping):
        return list(value.items())
    pairs = list(listed(elements(value)))
    if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
        raise ValueRefused(f"{named(value)} where a mapping or a list of pairs is needed")
    return pairs


def _distinct(keys: pa.Array, rows: np.ndarray[Any, Any]) -> None:
    """Refuse a map that has a key twice: readers differ in which value they keep."""
    codes = keys.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    if len(np.unique(np.stack([rows, codes]), axis=1).T) != len(codes):
        raise ValueRefused("a map with the same key twice")
