"""Converts values without parts (numbers, text, bytes, times) to Arrow arrays: exactly, or not at all.

Only the column's own type may round: a 64-bit float in a column of 32 bits, a Decimal in a column of floats. Otherwise
no number changes, no unit is guessed, and text is never read as a number.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.model.scalars import ATTOSECONDS, Clock, Day, Moment, Span, ValueRefused, is_nan, named, plain

DAY = ATTOSECONDS["D"]
_FIRST_DAY, _AFTER_LAST_DAY = -719_162, 2_932_897
_LONGEST_DAYS = 999_999_999
_FLOAT32_WHOLE = 2**24
"""32-bit floats hold every whole number up to this one."""

Fits = Callable[[Any], Any]


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
    fits = _fits(kind)
    return _whole(pa.array([_fitted(value, fits, kind) for value in values], kind))


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
    return None if (np.abs(array.to_numpy(zero_copy_only=False)) > most).any() else array.cast(kind)


def _infinities(array: pa.Array) -> int:
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


def is_number(kind: pa.DataType) -> bool:
    """Whether the type is an integer or a float."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether the type is a string with 32-bit or 64-bit offsets."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_bytes(kind: pa.DataType) -> bool:
    """Whether the type is binary, of variable or fixed size."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def checked_range(array: pa.Array) -> pa.Array:
    """Return the array if its times are ones that every reader can hold: years 1 to 9999, times within one day.

    :raises ValueRefused: a time is out of that range.
    """
    low, high = _range(array.type)
    if high is None or array.null_count == len(array):
        return array
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


def _fitted(value: Any, fits: Fits, kind: pa.DataType) -> Any:
    bare = plain(value)
    if bare is None:
        return None
    if is_nan(bare) and not pa.types.is_floating(kind):
        return None
    try:
        fitted = fits(bare)
    except ValueRefused:
        raise
    except (ArithmeticError, ValueError, TypeError, pa.ArrowException) as error:
        raise ValueRefused(f"{named(value)} out of its range") from error
    if fitted is None:
        raise ValueRefused(named(value))
    return fitted


def _fits(kind: pa.DataType) -> Fits:
    """Return a function that turns a plain value into one that pyarrow converts exactly to ``kind``, or into None."""
    if pa.types.is_integer(kind):
        return _integer(kind)
    if pa.types.is_floating(kind):
        return _floating(kind)
    if pa.types.is_boolean(kind):
        return lambda value: value if isinstance(value, bool) else None
    if is_text(kind):
        return _text
    if is_bytes(kind):
        return _bytes
    if pa.types.is_decimal(kind):
        return _decimal(kind)
    return _temporal(kind)


def _integer(kind: pa.DataType) -> Fits:
    low = -(2 ** (kind.bit_width - 1)) if pa.types.is_signed_integer(kind) else 0
    high = low + 2**kind.bit_width

    def fits(value: Any) -> int | None:
        if not isinstance(value, int | float | Decimal):
            return None
        if isinstance(value, float | Decimal) and (not math.isfinite(value) or value % 1 != 0):
            raise ValueRefused("a number that is not whole")
        if not low <= value < high:
            raise ValueRefused(f"a number out of the range of {kind}")
        return int(value)

    return fits


def _floating(kind: pa.DataType) -> Fits:
    narrow: Callable[[float], Any] = {16: np.float16, 32: np.float32, 64: np.float64}[kind.bit_width]

    def fits(value: Any) -> Any:
        if not isinstance(value, int | float | Decimal):
            return None
        with np.errstate(over="ignore"):
            number = narrow(float(value))
        if np.isinf(number) and abs(value) != math.inf:
            raise ValueRefused(f"a number too large for {kind}")
        if isinstance(value, int) and int(number) != value:
            raise ValueRefused(f"a whole number that {kind} cannot hold exactly")
        return number if kind.bit_width == 16 else float(number)

    return fits


def _text(value: Any) -> str | None:
    text = value.decode() if isinstance(value, bytes) else value
    if not isinstance(text, str):
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueRefused("a str with half a surrogate pair, which UTF-8 cannot hold") from None
    return text


def _bytes(value: Any) -> bytes | None:
    data = value.encode() if isinstance(value, str) else value
    return data if isinstance(data, bytes) else None


def _decimal(kind: pa.DataType) -> Fits:
    def fits(value: Any) -> Decimal | None:
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            return None
        number = Decimal(value)
        if not number.is_finite():
            raise ValueRefused("a Decimal that is not finite")
        try:
            pa.scalar(number, kind)
        except pa.ArrowException:
            raise ValueRefused(f"a number with more digits than {kind} has") from None
        return number

    return fits


def _temporal(kind: pa.DataType) -> Fits:
    """Times as counts in the column's own unit, which pyarrow takes unchanged."""
    if pa.types.is_date(kind):
        return _date(1 if pa.types.is_date32(kind) else 86_400_000)
    wanted = Clock if pa.types.is_time(kind) else Span if pa.types.is_duration(kind) else Moment
    zone = kind.tz if pa.types.is_timestamp(kind) else None
    unit = ATTOSECONDS[kind.unit]

    def fits(value: Any) -> int | None:
        if wanted is Moment:
            value = _in_zone(value, zone)
        if not isinstance(value, wanted):
            return None
        count, finer = divmod(value.attoseconds, unit)
        if finer:
            raise ValueRefused(f"a time finer than {kind} can hold: round it, or give the column a finer unit")
        return int(count)

    return fits


def _in_zone(value: Any, zone: str | None) -> Any:
    """Return the value as a time in the column's zone. A day stands for its first moment.

    A time without a zone is accepted as UTC in a column in UTC. For any other zone its meaning is unknown.
    """
    if isinstance(value, Day):
        value = Moment(value.days * DAY, zoned=False)
    if isinstance(value, Moment):
        if value.zoned and zone is None:
            raise ValueRefused("a time with a time zone, but the column has none")
        if not value.zoned and zone not in (None, "UTC", "Etc/UTC", "Z", "+00:00"):
            raise ValueRefused(f"a time without a time zone, but the column has {zone}")
    return value


def _date(per_day: int) -> Fits:
    def fits(value: Any) -> int | None:
        if isinstance(value, Moment):
            if value.zoned:
                raise ValueRefused("a time with a time zone, which may be another day elsewhere")
            days, rest = divmod(value.attoseconds, DAY)
            if rest:
                raise ValueRefused("a time that is not midnight, but the column holds days")
            return days * per_day
        return value.days * per_day if isinstance(value, Day) else None

    return fits
