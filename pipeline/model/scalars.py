"""Converts a single value of any library (Python, numpy, pandas, Arrow, a tensor) to the plain Python value it stands
for.

Numbers, text and bytes become Python's own; times become exact counts, so that no unit is guessed. An ambiguous value
is refused. Error texts never quote a value: they may be logged, and values may come from payloads.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.model import Reject

ATTOSECONDS = {
    "W": 7 * 86_400 * 10**18,
    "D": 86_400 * 10**18,
    "h": 3_600 * 10**18,
    "m": 60 * 10**18,
    "s": 10**18,
    "ms": 10**15,
    "us": 10**12,
    "ns": 10**9,
    "ps": 10**6,
    "fs": 10**3,
    "as": 1,
}
DAY = ATTOSECONDS["D"]
"""Length of each of numpy's time units that have a fixed length."""

_PLAIN = frozenset({type(None), bool, int, float, str, bytes, Decimal})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1)


class ValueRefused(ValueError):
    """The value does not fit its column. The text says what came; ``kind`` becomes the dead letter's kind."""

    kind = "contract"


class NotFinite(ValueRefused):
    """A NaN or an infinity where ``model.not_finite`` refuses them."""

    kind = "not_finite"


class Moment(NamedTuple):
    """An instant, in attoseconds since 1970. ``zoned``: it had a time zone, so it is in UTC."""

    attoseconds: int
    zoned: bool


class Day(NamedTuple):
    """A calendar day, in days since 1970."""

    days: int


class Clock(NamedTuple):
    """A time of day, in attoseconds since midnight."""

    attoseconds: int


class Span(NamedTuple):
    """A duration, in attoseconds."""

    attoseconds: int


def plain(value: Any) -> Any:
    """Return the plain value: None for a missing one, bool, int, float, str, bytes, Decimal, or one of :class:`Moment`,
    :class:`Day`, :class:`Clock`, :class:`Span`. Anything else is returned unchanged.

    NaN stays NaN: only the column knows whether it means missing there.

    :raises ValueRefused: the value has no exact plain form.
    :raises Reject: the model has put one in a value's place.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, np.generic):
        return _of_numpy(value)
    if isinstance(value, pa.Scalar):
        return _of_arrow(value)
    if isinstance(value, Reject):
        raise value
    if is_missing(value):
        return None
    if isinstance(value, date | time | timedelta):
        return _of_time(value)
    if isinstance(value, int | float | str | bytes):
        return _of_subclass(value)
    if isinstance(value, bytearray | memoryview):
        return _of_buffer(value)
    array = of_array(value)
    return value if array is None or array.ndim else plain(array[()])


def is_missing(value: Any) -> bool:
    """Whether it is ``None``, ``pandas.NA``, any ``NaT``, ``numpy.ma.masked``, or an Arrow null. NaN does not count."""
    if value is None or value is np.ma.masked:
        return True
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    if isinstance(value, pa.Scalar):
        return not value.is_valid
    return type(value).__name__ in {"NAType", "NaTType"} and home(value) == "pandas"


def is_nan(value: Any) -> bool:
    """Whether it is NaN, as a float or a Decimal: a missing value, except in a column of floats."""
    return value.is_nan() if isinstance(value, Decimal) else isinstance(value, float) and math.isnan(value)


def home(value: Any) -> str:
    """Return the top-level package of a value's type."""
    return type(value).__module__.partition(".")[0]


def named(value: Any) -> str:
    """Return what a value is, for an error's text: ``a str``, ``a numpy.ndarray of shape (2, 3)``."""
    kind, package = type(value), home(value)
    name = kind.__name__ if package in {"builtins", "__main__"} else f"{package}.{kind.__name__}"
    shape = getattr(value, "shape", None)
    text = f"{name} of shape {tuple(shape)}" if shape is not None and len(shape) else name
    return f"{'an' if text[0].lower() in 'aeiou' else 'a'} {text}"


def of_array(value: Any) -> np.ndarray[Any, Any] | None:
    """Return a numpy array of an array, a tensor, or any object with ``__array__``; masked arrays stay masked. Else
    None.

    :raises ValueRefused: the object's own conversion failed.
    """
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach"):
        return _of_tensor(value)
    if not hasattr(value, "__array__") or isinstance(value, type):
        return None
    try:
        return np.asarray(value)
    except Exception as error:
        raise ValueRefused(f"{named(value)} that cannot be converted to an array") from error


def _of_tensor(value: Any) -> np.ndarray[Any, Any]:
    """Copy it to the CPU, detached from its gradient; floats that numpy lacks (bfloat16) become 32-bit floats."""
    try:
        tensor = value.detach().cpu().resolve_conj().resolve_neg()
        if tensor.is_floating_point() and str(tensor.dtype) not in {"torch.float16", "torch.float32", "torch.float64"}:
            tensor = tensor.float()
        array: np.ndarray[Any, Any] = tensor.numpy()
    except Exception as error:
        raise ValueRefused(f"{named(value)} that cannot be converted to an array") from error
    return array


def _of_numpy(value: np.generic) -> Any:
    if isinstance(value, np.datetime64 | np.timedelta64):
        return None if np.isnat(value) else _of_numpy_time(value)
    if isinstance(value, np.floating):
        return _of_floating(value)
    if isinstance(value, np.str_ | np.bytes_):
        return _of_subclass(value)  # item() drops NULs at the end
    return value.item() if isinstance(value, np.bool_ | np.integer) else value


def _of_floating(value: np.floating[Any]) -> float:
    """Convert to a 64-bit float; a wider float is rounded, and refused if it is out of range."""
    number = float(value)
    if np.isinf(number) and np.isfinite(value):
        raise ValueRefused(f"{named(value)} out of the range of 64-bit floats")
    return number


def _of_numpy_time(value: Any) -> Moment | Span:
    if isinstance(value, np.datetime64) and np.datetime_data(value.dtype)[0] in {"Y", "M"}:
        value = value.astype("datetime64[D]")
    unit, multiple = np.datetime_data(value.dtype)
    if unit not in ATTOSECONDS:
        raise ValueRefused(f"{named(value)} whose unit has no fixed length")
    attoseconds = int(value.astype(np.int64)) * multiple * ATTOSECONDS[unit]
    return Moment(attoseconds, zoned=False) if isinstance(value, np.datetime64) else Span(attoseconds)


def _of_arrow(value: Any) -> Any:
    kind = value.type
    if not value.is_valid:
        return None
    if isinstance(value, pa.DictionaryScalar | pa.RunEndEncodedScalar):
        return plain(value.value if isinstance(value, pa.DictionaryScalar) else value.as_py())
    if pa.types.is_timestamp(kind):
        return Moment(value.value * ATTOSECONDS[kind.unit], zoned=kind.tz is not None)
    if pa.types.is_date(kind):
        days, rest = divmod(value.value, 1 if pa.types.is_date32(kind) else 86_400_000)
        return Moment(value.value * ATTOSECONDS["ms"], zoned=False) if rest else Day(days)
    if pa.types.is_time(kind):
        return Clock(value.value * ATTOSECONDS[kind.unit])
    if pa.types.is_duration(kind):
        return Span(value.value * ATTOSECONDS[kind.unit])
    is_nested = isinstance(value, pa.ListScalar | pa.StructScalar) or pa.types.is_interval(kind)
    return value if is_nested or isinstance(kind, pa.BaseExtensionType) else plain(value.as_py())


def _of_time(value: date | time | timedelta) -> Any:
    """pandas' own types come first: they are subclasses of Python's, with nanoseconds."""
    if hasattr(value, "to_datetime64"):
        return Moment(_of_numpy_time(value.to_datetime64()).attoseconds, value.tzinfo is not None)  # type: ignore[union-attr]
    if hasattr(value, "to_timedelta64"):
        return _of_numpy_time(value.to_timedelta64())
    if isinstance(value, datetime):
        zoned = value.utcoffset() is not None
        since = (value if zoned else value.replace(tzinfo=UTC)) - _EPOCH
        return Moment(_microseconds(since) * ATTOSECONDS["us"], zoned)
    if isinstance(value, date):
        return Day((value - _EPOCH_DAY).days)
    if isinstance(value, timedelta):
        return Span(_microseconds(value) * ATTOSECONDS["us"])
    if value.tzinfo is not None:
        raise ValueRefused("a time of day with a time zone")
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return Clock((seconds * 10**6 + value.microsecond) * ATTOSECONDS["us"])


def _microseconds(span: timedelta) -> int:
    return (span.days * 86_400 + span.seconds) * 10**6 + span.microseconds


def _of_subclass(value: Any) -> Any:
    """Return the number or text of an ``IntEnum``, ``StrEnum`` or another subclass, not what it prints."""
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    return str.__str__(value) if isinstance(value, str) else bytes(value)


def _of_buffer(value: bytearray | memoryview) -> bytes:
    if isinstance(value, memoryview) and value.format not in {"B", "c"}:
        raise ValueRefused(f"a memoryview of elements that are not bytes (format {value.format!r})")
    return bytes(value)
