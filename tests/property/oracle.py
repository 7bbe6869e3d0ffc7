"""The meaning of a value, determined by other means than the product's: exact fractions, pandas, pyarrow's safe casts.

:func:`meaning` is equal for two values if and only if they mean the same. It does not depend on columns.
"""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import enum
import math
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001  # what has no zone is counted from it


class Unknown(Exception):
    """The value has no meaning that a column can hold."""


class Row(list[Any]):
    """A named tuple: it may be read as a list or as fields."""

    def __init__(self, values: list[Any], fields: dict[str, Any]) -> None:
        super().__init__(values)
        self.fields = fields


def meaning(value: Any) -> Any:  # noqa: C901  # one line for each kind
    """Numbers are fractions, or the words nan and inf; times are fractions of seconds; lists and dicts are nested."""
    if isinstance(value, pa.Scalar | pa.Array | pa.ChunkedArray):
        return of_arrow(value) if isinstance(value, pa.Scalar) else [of_arrow(each) for each in value]
    if hasattr(value, "detach"):
        return meaning(value.detach().to("cpu").double().tolist() if value.is_floating_point() else value.tolist())
    if isinstance(value, np.ma.MaskedArray) and value.ndim:
        return [None if value[place] is np.ma.masked else meaning(value[place]) for place in range(len(value))]
    if isinstance(value, np.ndarray) and value is not np.ma.masked:
        return [meaning(each) for each in value] if value.ndim else meaning(value[()])
    if isinstance(value, pd.Series) and list(value.index) != list(range(len(value))):
        return Row([meaning(each) for each in value], {str(name): meaning(each) for name, each in value.items()})
    if isinstance(value, pd.Series | pd.Index | pd.api.extensions.ExtensionArray):
        return [meaning(each) for each in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return meaning(vars(value))
    if isinstance(value, Mapping):
        return {name: meaning(each) for name, each in value.items()}
    if hasattr(value, "_fields"):
        return Row([meaning(each) for each in value], {name: meaning(getattr(value, name)) for name in value._fields})
    if isinstance(value, np.void) and value.dtype.names:
        return {name: meaning(value[name]) for name in value.dtype.names}
    if isinstance(value, list | tuple | range | collections.deque | array.array):
        return [meaning(each) for each in value]
    return of_leaf(value)


def of_leaf(value: Any) -> Any:
    if isinstance(value, Decimal) and not value.is_finite():
        return ("number", "nan" if value.is_nan() else str(float(value)))
    if value is np.ma.masked or (not isinstance(value, str | bytes) and pd.isna(value) and not is_float(value)):
        return None
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, bool | np.bool_):
        return ("number", Fraction(int(value)))
    if is_float(value) and not math.isfinite(value):
        return ("number", str(float(value)))
    if isinstance(value, np.longdouble):
        return ("number", Fraction(float(value)))
    if isinstance(value, int | float | Decimal | np.integer | np.floating) and not isinstance(value, np.timedelta64):
        return ("number", Fraction(value.item() if isinstance(value, np.generic) else value))
    if isinstance(value, str | bytes | bytearray | memoryview):
        return ("text", value.encode() if isinstance(value, str) else bytes(value))
    return of_time(value)


def is_float(value: Any) -> bool:
    return isinstance(value, float | np.floating)


def of_time(value: Any) -> Any:
    if isinstance(value, np.datetime64 | np.timedelta64 | pd.Timestamp | pd.Timedelta):
        return of_pandas(value)
    if isinstance(value, dt.datetime):
        zoned = value.tzinfo is not None
        return ("moment", fraction((value.astimezone(dt.UTC).replace(tzinfo=None) if zoned else value) - EPOCH), zoned)
    if isinstance(value, dt.date):
        return ("moment", Fraction((value - EPOCH.date()).days * 86_400), False)
    if isinstance(value, dt.timedelta):
        return ("span", fraction(value))
    if isinstance(value, dt.time) and value.tzinfo is None:
        return ("clock", fraction(dt.datetime.combine(EPOCH, value) - EPOCH))
    raise Unknown(type(value))


def of_pandas(value: Any) -> Any:
    """pandas' nanoseconds in their range, numpy's counts outside of it."""
    zoned = getattr(value, "tzinfo", None) is not None
    bare = value.asm8 if isinstance(value, pd.Timestamp | pd.Timedelta) else value
    unit, many = np.datetime_data(bare.dtype)
    units = {"W": Fraction(604_800), "D": Fraction(86_400), "h": Fraction(3_600), "m": Fraction(60)}
    units |= {name: Fraction(1, per) for name, per in SECOND.items()}
    units |= {"ps": Fraction(1, 10**12), "fs": Fraction(1, 10**15), "as": Fraction(1, 10**18)}
    if unit in {"Y", "M"} and isinstance(bare, np.datetime64):
        year, _, month = str(bare.astype("datetime64[M]")).rpartition("-")
        days = dt.date(int(year), int(month), 1) - EPOCH.date()
        return ("moment", Fraction(days.days * 86_400), zoned)
    if unit not in units:
        raise Unknown(unit)
    seconds = int(bare.astype("int64")) * many * units[unit]
    return ("moment", seconds, zoned) if isinstance(bare, np.datetime64) else ("span", seconds)


def fraction(span: dt.timedelta) -> Fraction:
    return Fraction(span // dt.timedelta(microseconds=1), 10**6)


def of_arrow(value: Any) -> Any:
    kind = value.type
    if not value.is_valid:
        return None
    if pa.types.is_dictionary(kind):
        return of_arrow(value.value)
    if pa.types.is_timestamp(kind):
        return ("moment", Fraction(value.value, SECOND[kind.unit]), kind.tz is not None)
    if pa.types.is_time(kind) or pa.types.is_duration(kind):
        word = "clock" if pa.types.is_time(kind) else "span"
        return (word, Fraction(value.value, SECOND[kind.unit]))
    if pa.types.is_map(kind):
        return {of_arrow(key): of_arrow(item) for key, item in zip(*value.values.flatten(), strict=True)}
    if isinstance(value, pa.StructScalar):
        return {name: of_arrow(value[name]) for name in value}
    if isinstance(value, pa.ListScalar):
        return [of_arrow(each) for each in value.values]
    return meaning(value.as_py())


def same(given: Any, kept: Any, kind: pa.DataType) -> bool:
    """Whether ``kept`` is what a column of ``kind`` should hold for ``given``."""
    if is_missing(given, kind):
        return kept is None
    if kept is None:
        return False
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return same(given, kept, kind.value_type)
    if pa.types.is_map(kind):
        return same_map(given, kept, kind)
    if pa.types.is_struct(kind) and isinstance(given, Row):
        given = given.fields
    if pa.types.is_struct(kind):
        names = {kind.field(place).name: kind.field(place).type for place in range(kind.num_fields)}
        return (
            isinstance(given, dict)
            and set(given) <= set(names)
            and all(same(given.get(name), kept[name], each) for name, each in names.items())
        )
    if kind.num_fields:
        return (
            isinstance(given, list)
            and len(given) == len(kept)
            and all(same(one, other, kind.value_type) for one, other in zip(given, kept, strict=True))
        )
    return isinstance(given, tuple) and same_leaf(given, kept, kind)


def same_map(given: Any, kept: Any, kind: pa.DataType) -> bool:
    pairs = list(given.items()) if isinstance(given, dict) else given
    if not isinstance(pairs, list) or len(pairs) != len(kept):
        return False
    return all(
        same(key if isinstance(key, tuple) else meaning(key), kept_key, kind.key_type)
        and same(item, kept_item, kind.item_type)
        for (key, item), (kept_key, kept_item) in zip(pairs, kept.items(), strict=True)
    )


def is_missing(given: Any, kind: pa.DataType) -> bool:
    return given is None or (given == ("number", "nan") and not pa.types.is_floating(kind))


def same_leaf(given: tuple[Any, ...], kept: tuple[Any, ...], kind: pa.DataType) -> bool:
    if given[0] != kept[0]:
        return False
    if given[0] == "number" and pa.types.is_boolean(kind):
        return given == kept
    if given[0] == "number" and pa.types.is_floating(kind):
        return same_float(given[1], kept[1], kind)
    if given[0] == "moment":
        zone = getattr(kind, "tz", None)
        return given[1] == kept[1] and (given[2] == (zone is not None) or (zone == "UTC" and not given[2]))
    return given == kept


def same_float(given: Any, kept: Any, kind: pa.DataType) -> bool:
    """The nearest float; a whole number exactly, unless it was given as a float."""
    if isinstance(given, str) or isinstance(kept, str):
        return bool(given == kept)
    narrow: Any = {16: np.float16, 32: np.float32, 64: np.float64}[kind.bit_width]
    return bool(Fraction(float(narrow(float(given)))) == kept)
