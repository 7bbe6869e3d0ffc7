"""Records as JSON lines: what ``penstock tail`` prints, and what can be put on a stream again, byte for byte.

A line has ``shard_id``, ``sequence_number``, ``sub_sequence_number``, ``partition_key``, ``arrived_at``, and the
payload as one of three fields: ``data`` (the payload is JSON, unchanged), ``data_text`` (other UTF-8 text) or
``data_base64`` (all else).
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from pipeline.record import Position

_INSIGNIFICANT = " \t\n\r"


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """A record; each user record of an aggregate is one. ``arrived_ms`` is epoch time."""

    shard_id: str
    position: Position
    partition_key: str | None
    arrived_ms: int
    data: bytes


class _Line(msgspec.Struct):
    """The fields read from a line; others are ignored. ``data`` keeps its bytes unchanged."""

    partition_key: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    data_text: str | None = None
    data_base64: str | None = None


def line_of(record: StreamRecord) -> bytes:
    """One line without its end. :func:`payload_of` returns the same payload, byte for byte."""
    fields: dict[str, Any] = {
        "shard_id": record.shard_id,
        "sequence_number": str(record.position.sequence),
        "sub_sequence_number": record.position.sub,
        "partition_key": record.partition_key,
        "arrived_at": datetime.fromtimestamp(record.arrived_ms / 1000, UTC).isoformat(timespec="milliseconds"),
    }
    name, value = _payload(record.data)
    return msgspec.json.encode(fields | {name: value})


def fields_of(record: StreamRecord) -> Mapping[str, Any]:
    """The same fields as plain values, for an expression that selects records."""
    found: Mapping[str, Any] = json.loads(line_of(record))
    return found


def payload_of(line: bytes) -> tuple[bytes, str | None]:
    """The payload of a line that :func:`line_of` made, and its partition key.

    :raises ValueError: the line is not such an object; the text says why.
    """
    try:
        read = msgspec.json.decode(line, type=_Line)
        if read.data_base64 is not None:
            return b64decode(read.data_base64, validate=True), read.partition_key
    except ValueError as error:  # msgspec.DecodeError and binascii.Error are ValueErrors
        raise ValueError(f"the line is not a record: {error}") from None
    if read.data_text is not None:
        return read.data_text.encode(), read.partition_key
    if data := bytes(read.data):
        return data, read.partition_key
    raise ValueError("the line is not a record: it has none of data, data_text and data_base64")


def _payload(data: bytes) -> tuple[str, Any]:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "data_base64", b64encode(data).decode()
    return ("data", msgspec.Raw(data)) if _is_verbatim(text) else ("data_text", text)


def _is_verbatim(text: str) -> bool:
    """Whether the text is JSON that a line can hold unchanged: one line, and nothing around it."""
    if not text or "\n" in text or "\r" in text or text != text.strip(_INSIGNIFICANT):
        return False
    try:
        json.loads(text, parse_constant=_refuse)
        msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> None:
    """NaN and Infinity exist in Python, not in JSON."""
    raise ValueError(constant)
