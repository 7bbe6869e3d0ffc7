"""Values as models return them (Python's, numpy's, tensors) as Arrow arrays; nothing is rounded off in silence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def column(values: list[Any], field: pa.Field) -> pa.Array:
    """Values (Python's, numpy's, or a tensor's rows) as an array of the field's type. Raises what pyarrow raises."""
    if _has_whole(field.type):
        for value in values:
            _refuse_fractions(value, field.type)
    array = _stacked(values, field.type)
    if array is None:
        try:
            array = pa.array(values, field.type)
        except (pa.ArrowException, TypeError, ValueError):
            array = pa.array([_pythonic(value) for value in values], field.type)
    if isinstance(array, pa.ChunkedArray):
        raise OverflowError(f"{array.nbytes} bytes are too much for one array")
    if array.null_count and not field.nullable:
        raise ValueError("null, which the output_schema does not allow")
    return array


def _is_whole(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_integer(kind) or pa.types.is_temporal(kind))


def _has_whole(kind: pa.DataType) -> bool:
    """Whether numbers of this type, however deep, are whole: pyarrow would cut off a Python float's fraction."""
    inner = [kind.field(place).type for place in range(kind.num_fields)]
    return any(_has_whole(child) for child in inner) or _is_whole(kind)


def _refuse_fractions(value: Any, kind: pa.DataType) -> None:
    """``ValueError`` where a whole number is wanted and another one found. What is of no fitting shape passes."""
    if value is None or type(value) is int:
        return
    if pa.types.is_struct(kind):
        for field in kind if isinstance(value, Mapping) else ():
            _refuse_fractions(value.get(field.name), field.type)
    elif kind.num_fields == 1 and not pa.types.is_map(kind):
        _refuse_in_list(value, kind.value_type)
    elif _is_whole(kind) and isinstance(value, float | np.floating | Decimal) and value % 1 != 0:
        raise ValueError(f"{value} is no whole number")


def _refuse_in_list(values: Any, kind: pa.DataType) -> None:
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "iufb":
        if values.dtype.kind == "f" and _is_whole(kind) and not np.array_equal(values, np.trunc(values)):
            raise ValueError("not all of its numbers are whole")
    elif isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping):
        for value in values:
            _refuse_fractions(value, kind)


def _stacked(values: list[Any], kind: pa.DataType) -> pa.Array | None:
    """Equally long numeric numpy rows as a fixed-size list, without touching each number; None if they are not that."""
    if not pa.types.is_fixed_size_list(kind) or not values or not all(type(value) is np.ndarray for value in values):
        return None
    shape = (kind.list_size,)
    if not all(value.shape == shape and value.dtype.kind in "fiu" for value in values):
        return None
    return pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(values), kind.value_type), type=kind)


def _pythonic(value: Any) -> Any:
    """Arrays and tensors, wherever they are nested, as Python's lists and numbers."""
    if isinstance(value, Mapping):
        return {key: _pythonic(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_pythonic(inner) for inner in value]
    return np.asarray(value).tolist() if hasattr(value, "__array__") else value


def not_finite(array: pa.Array) -> list[int]:
    """The rows that hold a NaN or an infinity, however deep in lists and structs."""
    kind = array.type
    if pa.types.is_floating(kind):
        finite = pc.is_finite(array.cast(pa.float64()) if pa.types.is_float16(kind) else array)
        return [] if pc.all(finite).as_py() in (True, None) else np.flatnonzero(~_true_or_null(finite)).tolist()
    if pa.types.is_struct(kind):
        return sorted({row for child in array.flatten() for row in not_finite(child)})
    if pa.types.is_map(kind):
        array = array.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
    if pa.types.is_fixed_size_list(kind):
        inner = not_finite(array.flatten())
        rows = np.flatnonzero(_true_or_null(array.is_valid()))
        return sorted({int(rows[index // kind.list_size]) for index in inner})
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        return []
    inner = not_finite(array.flatten())
    return sorted(set(pc.list_parent_indices(array).take(pa.array(inner, pa.int64())).to_pylist()))


def _true_or_null(mask: pa.BooleanArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    result: np.ndarray[Any, np.dtype[np.bool_]] = pc.fill_null(mask, True).to_numpy(zero_copy_only=False)
    return result
