"""Kinesis on the wire: JSON with base64 and epoch seconds, or CBOR with bytes and epoch milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cbor2
import orjson
import pybase64

from consumer.local.errors import AwsError

JSON = "application/x-amz-json-1.1"
CBOR = "application/x-amz-cbor-1.1"

_TIMES = {"StreamCreationTimestamp", "ConsumerCreationTimestamp", "ApproximateArrivalTimestamp", "Timestamp"}
_EPOCH = 1
"""CBOR's tag for a time. AWS puts whole milliseconds behind it, where CBOR's standard means seconds."""


def decode(content_type: str, body: bytes) -> dict[str, Any]:
    """A request's parameters: data as bytes, times in epoch seconds.

    :raises AwsError: the body is not what its content type says.
    """
    try:
        values = _decode_cbor(body) if content_type.startswith(CBOR) else _decode_json(body)
    except (ValueError, TypeError, cbor2.CBORDecodeError) as error:
        raise AwsError("SerializationException", f"could not read the request: {error}") from None
    if not isinstance(values, dict):
        raise AwsError("SerializationException", "the request is no structure")
    return values


def _decode_json(body: bytes) -> Any:
    values = orjson.loads(body or b"{}")
    if isinstance(values, dict):
        for holder in (values, *(values.get("Records") or ())):
            if isinstance(holder.get("Data"), str):
                holder["Data"] = pybase64.b64decode(holder["Data"], validate=True)
    return values


def _decode_cbor(body: bytes) -> Any:
    values = cbor2.loads(body, semantic_decoders={_EPOCH: _bare}) if body else {}
    if isinstance(values, dict):
        for holder in (values, values.get("ShardFilter")):
            if isinstance(holder, dict):
                for key in _TIMES & holder.keys():
                    holder[key] = holder[key] / 1000
    return values


def _bare(value: Any, *_: Any) -> Any:
    return value


def encode(content_type: str, values: Mapping[str, Any]) -> bytes:
    """An answer in the encoding of its request."""
    if content_type.startswith(CBOR):
        return cbor2.dumps(_for_cbor(values))
    return orjson.dumps(values, default=_base64)


def _base64(value: Any) -> str:
    if isinstance(value, bytes):
        return pybase64.b64encode_as_string(value)
    raise TypeError(type(value).__name__)


def _for_cbor(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _for_cbor(part, name) for name, part in value.items()}
    if isinstance(value, list):
        return [_for_cbor(part) for part in value]
    if key in _TIMES:
        return cbor2.CBORTag(_EPOCH, round(value * 1000))
    return value
