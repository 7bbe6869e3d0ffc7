"""Payload fields that are carried into columns (``[model.passthrough]``): read exactly, or the record is rejected."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from json import decoder
from typing import Any

import orjson
import pyarrow as pa

from pipeline.model import Reject

_TIME = pa.timestamp("us", tz="UTC")
_PER_SECOND = {"timestamp[s]": 1, "timestamp[ms]": 10**3, "timestamp[us]": 10**6, "timestamp[ns]": 10**9}

TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": _TIME,
    **dict.fromkeys(_PER_SECOND, _TIME),
}
"""The types of ``[model.passthrough]``. ``timestamp`` is read from ISO-8601 text only; a timestamp with a unit also
from numbers in that unit since 1970. Digits beyond a microsecond are cut off.
"""

EXACT_FLOAT = 2**53
"""64-bit floats hold every whole number up to this one."""

_DAY_SECONDS = 86_400
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()

Convert = Callable[[Any], Any]


class Passthrough:
    """Reads the fields of ``[model.passthrough]``, by name and type, of one record at a time."""

    def __init__(self, passthrough: Mapping[str, str]) -> None:
        self._fields = [(name, kind, CONVERTERS[kind]) for name, kind in passthrough.items()]

    def row(self, item: Any, payload: bytes, *, reads_json: bool) -> list[Any]:
        """Return the fields' values in the configured order: from the item where it has the field, else from the
        payload, else None.

        A number whose digits the JSON parser may have changed is read from the payload's text.

        :raises Reject: a field is not of its type.
        """
        row: list[Any] = []
        parsed: Mapping[str, Any] | None = None
        texts: Mapping[str, str] | None = None
        for name, kind, convert in self._fields:
            from_json = reads_json
            if isinstance(item, Mapping) and (reads_json or name in item):
                value = item.get(name)
            else:
                from_json, parsed = True, json_object(payload) if parsed is None else parsed
                value = parsed.get(name)
            if from_json and _may_differ(value, kind):
                texts = json_texts(payload) if texts is None else texts
                value = _Written(texts[name])
            row.append(None if value is None else _converted(name, kind, convert, value))
        return row


class _Written(str):
    """A JSON value that is not a string, as the producer wrote it."""

    __slots__ = ()


def _may_differ(value: Any, kind: str) -> bool:
    """Whether the parsed ``value`` may have lost digits that matter to a column of this type."""
    if value is None or isinstance(value, str | bool):
        return kind == "string" and isinstance(value, bool)
    if kind == "string":
        return True
    return isinstance(value, float) and abs(value) >= EXACT_FLOAT


def _converted(name: str, kind: str, convert: Convert, value: Any) -> Any:
    try:
        return convert(value)
    except _Told as told:
        raise Reject(f"passthrough field '{name}' is {told}") from None
    except (TypeError, ValueError, ArithmeticError, OSError, RecursionError):
        came = "number" if isinstance(value, _Written) else type(value).__name__
        raise Reject(f"passthrough field '{name}' is a {came} that is not a valid {kind}") from None


class _Told(ValueError):
    """A value is refused for another reason than its type; the text says which."""


def json_object(payload: bytes) -> Mapping[str, Any]:
    """Parse a payload. Empty if it is not a JSON object."""
    try:
        item = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return {}
    return item if isinstance(item, dict) else {}


_SCANNER = decoder.JSONDecoder(parse_int=str, parse_float=str)
_SPACE = " \t\n\r"


def json_texts(payload: bytes) -> dict[str, str]:
    """Return the fields of a JSON object as the producer wrote them. Of a name that occurs twice, the last counts.

    ``payload`` must be a JSON object.

    :raises Reject: it is nested too deeply.
    """
    text, texts = payload.decode(), {}
    place = _after_space(text, _after_space(text, 0) + 1)
    while text[place] != "}":
        name, place = _SCANNER.raw_decode(text, place)
        start = _after_space(text, _after_space(text, place) + 1)
        try:
            _, place = _SCANNER.raw_decode(text, start)
        except RecursionError:
            raise Reject("the payload is nested too deeply to carry its fields") from None
        texts[name] = text[start:place]
        place = _after_space(text, place)
        place = _after_space(text, place + 1) if text[place] == "," else place
    return texts


def _after_space(text: str, place: int) -> int:
    while text[place] in _SPACE:
        place += 1
    return place


def _number_in(value: Any) -> Any:
    """Read a JSON number exactly: a whole one as an int, in any notation."""
    if not isinstance(value, _Written):
        return value
    number = Decimal(value)
    if number.adjusted() > 400:
        raise OverflowError
    return int(number) if number == number.to_integral_value() else number


def _text(value: Any) -> str:
    """Return text unchanged, and any other JSON value as the producer wrote it."""
    if isinstance(value, str):
        return str(value)
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _whole(value: Any) -> int:
    value = _number_in(value)
    if isinstance(value, bool) or int(value) != value or not -(2**63) <= value < 2**63:
        raise ValueError
    return int(value)


def _float(value: Any) -> float:
    """Read a whole number exactly, any other as the nearest float."""
    written, value = value, _number_in(value)
    if isinstance(value, bool | str):
        raise TypeError
    number = float(value)
    if math.isinf(number) and not (isinstance(value, float) and math.isinf(value)):
        raise OverflowError
    is_whole = isinstance(value, int) and not (isinstance(written, _Written) and set(written) & set(".eE"))
    if is_whole and int(number) != value:
        raise _Told("a whole number that float64 cannot hold exactly: carry it as int64 or string")
    return number


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _iso(value: Any) -> datetime:
    if isinstance(value, int | float | _Written) and not isinstance(value, bool):
        raise _Told("a number, whose unit is unknown: carry it as timestamp[s], [ms], [us] or [ns]")
    if isinstance(value, date) and not isinstance(value, datetime):
        raise TypeError
    when = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    # Converted to UTC here: in its own zone the year could be one that readers refuse.
    return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)


def _in_unit(kind: str) -> Convert:
    per_second = _PER_SECOND[kind]

    def convert(value: Any) -> datetime:
        value = _number_in(value)
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            return _iso(value)
        exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
        return _after_1970(int((exact * 10**6 / per_second).to_integral_value("ROUND_FLOOR")))

    return convert


def _after_1970(microseconds: int) -> datetime:
    seconds, micro = divmod(microseconds, 10**6)
    days, second = divmod(seconds, _DAY_SECONDS)
    day = datetime.fromordinal(_EPOCH_ORDINAL + days)
    return day.replace(
        hour=second // 3600, minute=second % 3600 // 60, second=second % 60, microsecond=micro, tzinfo=UTC
    )


CONVERTERS: Mapping[str, Convert] = {
    "string": _text,
    "int64": _whole,
    "float64": _float,
    "bool": _flag,
    "timestamp": _iso,
    **{kind: _in_unit(kind) for kind in _PER_SECOND},
}
