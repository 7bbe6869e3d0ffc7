"""Converts values without parts (numbers, text, bytes, times) to Arrow arrays: exactly, or not at all.

Only the column's own type may round: a 64-bit float in a column of 32 bits, a Decimal in a column of floats. Otherwise
no number changes, no unit is guessed, and text is never read as a number.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.model.arrow_types import is_bytes, is_number, is_text
from pipeline.model.arrow_values import fitted, fitting
from pipeline.model.scalars import ATTOSECONDS, DAY, ValueRefused

_FIRST_DAY, _AFTER_LAST_DAY = -719_162, 2_932_897
_LONGEST_DAYS = 999_999_999
_FLOAT32_WHOLE = 2**24
"""32-bit floats hold every whole number up to this one."""


@lru_cache(maxsize=256)
def fast(kind: pa.DataType) -> frozenset[type]:
    """Return the types of values that pyarrow itself converts exactly to ``kind``, or refuses."""
    if pa.types.is_integer(kind):
        return frozenset({int, type(None)})
    if pa.types.is_float32(kind) or pa.types.is_float64(kind):
        return frozenset({float, int, bool, type(None), np.float32, np.float64, np.float16})
    if pa.types.is_float16(kind):
        return frozenset({float, type(None)})
    if pa.types.is_boolean(kind):
        return frozenset({bool, type(None)})
    if is_text(kind):
        return frozenset({str, type(None)})
    return frozenset({bytes, type(None)}) if is_bytes(kind) else frozenset()


def from_list(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Convert a list of values.

    :raises ValueRefused: a value does not fit ``kind``. pyarrow's own errors mean the same.
    """
    if (floats := _floats(values, kind)) is not None:
        return floats
    if set(map(type, values)) <= fast(kind):
        try:
            array = pa.array(values, kind)
        except (pa.ArrowException, OverflowError, ValueError, TypeError):
            pass  # the conversion value by value has a better message
        else:
            return _whole(array) if not pa.types.is_floating(kind) else _no_overflow(_whole(array), values)
    fits = fitting(kind)
    return _whole(pa.array([fitted(value, fits, kind) for value in values], kind))


def _floats(values: Sequence[Any], kind: pa.DataType) -> pa.Array | None:
    """Convert a list of floats, in half the time of asking each value for its type. None: examine each value.

    Without a type, pyarrow infers doubles from floats alone, and from floats mixed with whole numbers and bools. In a
    32-bit column, a large number may have been whole and must not be rounded; an infinity may be a wider float that
    overflowed.
    """
    if not (pa.types.is_float32(kind) or pa.types.is_float64(kind)):
        return None
    try:
        array = pa.array(values)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        return None
    if isinstance(array, pa.ChunkedArray) or not pa.types.is_float64(array.type):
        return None
    most = _FLOAT32_WHOLE if pa.types.is_float32(kind) else sys.float_info.max
    if (np.abs(array.to_numpy(zero_copy_only=False)) > most).any():
        return None
    return array if array.type == kind else array.cast(kind)


def _infinities(array: pa.Array) -> int:
    import pyarrow.compute as pc  # here, as in arrow_columns

    return pc.sum(pc.is_inf(array)).as_py() or 0


def from_arrow(array: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """Cast an Arrow array to ``kind`` if the cast is certain to be exact. None: examine each value."""
    source = array.type
    if source == kind and not pa.types.is_date64(kind):
        return array
    numbers = is_number(source) or pa.types.is_boolean(source)
    alike = (
        (is_number(kind) and numbers and not pa.types.is_float16(kind))
        or (is_text(kind) and is_text(source))
        or (is_bytes(kind) and is_bytes(source))
        or pa.types.is_null(source)
    )
    if not alike:
        return None
    try:
        cast = array.cast(kind, safe=True)
    except pa.ArrowException:
        return None
    return _no_overflow(cast, array) if pa.types.is_floating(kind) else cast


def from_numpy(array: np.ndarray[Any, Any], kind: pa.DataType) -> pa.Array | None:
    """Convert a one-dimensional numpy array to an Arrow array of the type that preserves it. None: examine each
    value.
    """
    code, size = array.dtype.kind, array.dtype.itemsize
    if code in "biuf" and size <= 8:
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        nan = np.isnan(native) if code == "f" and not pa.types.is_floating(kind) else None
        return pa.array(native, mask=nan if nan is not None and nan.any() else None)
    return pa.array(array) if code == "U" and is_text(kind) else None


def checked_range(array: pa.Array) -> pa.Array:
    """Return the array if its times are ones that every reader can hold: years 1 to 9999, times within one day.

    :raises ValueRefused: a time is out of that range.
    """
    low, high = _range(array.type)
    if high is None or array.null_count == len(array):
        return array
    import pyarrow.compute as pc  # here, as in arrow_columns

    counts = array.view(pa.int32() if array.type.bit_width == 32 else pa.int64())
    ends = pc.min_max(counts)
    if ends["min"].as_py() < low or ends["max"].as_py() >= high:
        raise ValueRefused("a time out of range: readers accept the years 1 to 9999 and 24 hours in a day")
    return array


def _range(kind: pa.DataType) -> tuple[int, int | None]:
    if pa.types.is_timestamp(kind):
        day = DAY // ATTOSECONDS[kind.unit]
        return _FIRST_DAY * day, _AFTER_LAST_DAY * day
    if pa.types.is_date(kind):
        day = 1 if pa.types.is_date32(kind) else 86_400_000
        return _FIRST_DAY * day, _AFTER_LAST_DAY * day
    if pa.types.is_time(kind):
        return 0, DAY // ATTOSECONDS[kind.unit]
    if pa.types.is_duration(kind):
        most = _LONGEST_DAYS * DAY // ATTOSECONDS[kind.unit]
        return -most, most + 1
    return 0, None


def _whole(array: pa.Array) -> pa.Array:
    if isinstance(array, pa.ChunkedArray):
        raise OverflowError(f"{array.nbytes} bytes are too many for one array")
    return array


def _no_overflow(array: pa.Array, values: Any) -> pa.Array:
    """Refuse an array in which a finite number has become infinite, in a narrower float."""
    if pa.types.is_float64(array.type):
        return array
    wide = array.cast(pa.float64()) if pa.types.is_float16(array.type) else array
    infinite = _infinities(wide)
    if infinite:
        given = values if isinstance(values, pa.Array) else pa.array(values, pa.float64())
        if infinite != _infinities(given.cast(pa.float64())):
            raise ValueRefused(f"a number too large for a {array.type}")
    return array
