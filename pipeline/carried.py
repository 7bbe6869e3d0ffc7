"""Payload fields that the user keeps as columns: their types, and how their values are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any

import orjson
import pyarrow as pa

from pipeline.model import Reject

TYPES = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
"""The types of ``[model.carry]``. Timestamps are read from ISO-8601 text, or from numbers: milliseconds since 1970."""


def json_object(payload: bytes) -> Mapping[str, Any]:
    try:
        item = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return {}
    return item if isinstance(item, dict) else {}


def converter(name: str, kind: str) -> Callable[[Any], Any]:
    convert = {"string": _text, "int64": _whole, "float64": _number, "bool": _flag, "timestamp": _time}[kind]

    def checked(value: Any) -> Any:
        try:
            return convert(value)
        except (TypeError, ValueError, OverflowError, OSError):
            raise Reject(f"carried field '{name}' is a {type(value).__name__} that is no {kind}") from None

    return checked


def _text(value: Any) -> str:
    """Text as it is; what else JSON may hold, as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _whole(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value or not -(2**63) <= value < 2**63:
        raise ValueError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool | str):
        raise TypeError
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _time(value: Any) -> datetime:
    if isinstance(value, bool):
        raise TypeError
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value / 1000, UTC)
    if isinstance(value, date) and not isinstance(value, datetime):
        raise TypeError
    when = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    # In UTC here, or the zone might carry it out of the years that readers know.
    return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
