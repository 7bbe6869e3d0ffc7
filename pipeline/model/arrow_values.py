"""Turns single values into ones that pyarrow converts exactly to a type, or refuses them: the slow way of
:mod:`pipeline.model.arrow_leaves`, with a message that says what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.model.arrow_types import is_bytes, is_text
from pipeline.model.scalars import ATTOSECONDS, DAY, Clock, Day, Moment, Span, ValueRefused, is_nan, named, plain

Fits = Callable[[Any], Any]


def fitted(value: Any, fits: Fits, kind: pa.DataType) -> Any:
    """Return the value as pyarrow takes it, or None if it is missing. ``fits``: of :func:`fitting`.

    :raises ValueRefused: it does not fit ``kind``.
    """
    bare = plain(value)
    if bare is None:
        return None
    if is_nan(bare) and not pa.types.is_floating(kind):
        return None
    try:
        found = fits(bare)
    except ValueRefused:
        raise
    except (ArithmeticError, ValueError, TypeError, pa.ArrowException) as error:
        raise ValueRefused(f"{named(value)} out of its range") from error
    if found is None:
        raise ValueRefused(named(value))
    return found


def fitting(kind: pa.DataType) -> Fits:
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
