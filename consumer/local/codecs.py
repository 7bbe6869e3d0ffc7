"""The encodings of Kinesis: JSON (boto3, the AWS CLI) and CBOR (the Java SDK, and so KCL)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import cbor2
import orjson
import pybase64

from consumer.local.kinesis.errors import malformed
from consumer.local.kinesis.stream import Timestamp

TIMES = ("StreamCreationTimestamp", "Timestamp")
EPOCH_TAG = 1
SHARED_TAGS = (28, 29)
"""Tags of a value that the body refers to, and of the reference. They can make a value that contains itself."""
MILLIS_FROM = 10_000_000_000
"""A CBOR time above this is in milliseconds: in seconds it would be after the year 2286."""


class Codec(Protocol):
    """An encoding. Decoded requests have ``bytes`` for blobs and milliseconds since the epoch for times."""

    content_type: bytes

    def decode(self, operation: str, body: bytes) -> dict[str, Any]:
        """Parse the body of a request.

        :raises KinesisError: ``SerializationException`` if it cannot be parsed.
        """
        ...

    def encode(self, answer: dict[str, Any]) -> bytes:
        """Serialize an answer, with ``bytes`` for blobs and :class:`Timestamp` for times."""
        ...


class Json:
    """``application/x-amz-json-1.1``: blobs are base64, times are seconds with a fraction."""

    content_type = b"application/x-amz-json-1.1"

    def decode(self, operation: str, body: bytes) -> dict[str, Any]:
        """Parse a JSON body; see :class:`Codec`."""
        try:
            request = orjson.loads(body or b"{}")
        except orjson.JSONDecodeError as error:
            raise malformed(f"The body is not JSON: {error}") from None
        request = _of_times(request, lambda seconds: round(seconds * 1000))
        if operation == "PutRecord":
            _unpack(request)
        elif operation == "PutRecords" and isinstance(request.get("Records"), list):
            for record in request["Records"]:
                _unpack(record)
        return request

    def encode(self, answer: dict[str, Any]) -> bytes:
        """Serialize an answer as JSON; see :class:`Codec`."""
        return orjson.dumps(answer, default=_plain)


class Cbor:
    """``application/x-amz-cbor-1.1``: blobs are bytes. Times are tag 1 with milliseconds, as in AWS's answers; CBOR
    itself defines seconds."""

    content_type = b"application/x-amz-cbor-1.1"

    def decode(self, operation: str, body: bytes) -> dict[str, Any]:
        """Parse a CBOR body; see :class:`Codec`. Times may be in seconds or in milliseconds."""
        try:
            request = cbor2.loads(body or b"\xa0", semantic_decoders=DECODERS)
        except (cbor2.CBORDecodeError, ValueError) as error:
            raise malformed(f"The body is not CBOR: {error}") from None
        return _of_times(request, lambda time: round(time if time > MILLIS_FROM else time * 1000))

    def encode(self, answer: dict[str, Any]) -> bytes:
        """Serialize an answer as CBOR; see :class:`Codec`."""
        return cbor2.dumps(answer, default=_tagged)


def _untagged(time: Any, immutable: bool) -> Any:
    """Keep the number. cbor2 would make a datetime, which cannot hold milliseconds as seconds."""
    return time


def _refused(value: Any, immutable: bool) -> Any:
    raise ValueError("it has references to shared values")


DECODERS = {EPOCH_TAG: _untagged, **dict.fromkeys(SHARED_TAGS, _refused)}

JSON = Json()
CBOR = Cbor()


def codec_for(content_type: bytes) -> Codec:
    """Return the codec of a request's Content-Type; JSON unless it names CBOR."""
    return CBOR if b"cbor" in content_type else JSON


def _of_times(request: Any, to_ms: Callable[[float], int]) -> dict[str, Any]:
    if not isinstance(request, dict):
        raise malformed("The body must be a structure.")
    for holder in (request, request.get("ShardFilter"), request.get("StartingPosition")):
        if isinstance(holder, dict):
            for name in TIMES:
                if holder.get(name) is not None:
                    holder[name] = _ms(name, holder[name], to_ms)
    return request


def _ms(name: str, time: Any, to_ms: Callable[[float], int]) -> int:
    if type(time) not in (int, float):
        raise malformed(f"{name} must be a number.")
    try:
        return to_ms(time)
    except (OverflowError, ValueError):  # infinite, or not a number
        raise malformed(f"{name} must be a time; it is {time}.") from None


def _unpack(record: Any) -> None:
    if not isinstance(record, dict):
        raise malformed("A record must be a structure.")
    data = record.get("Data")
    if data is None:
        return
    try:
        record["Data"] = pybase64.b64decode(data, validate=True)
    except (ValueError, TypeError):
        raise malformed("Data must be a string in base64.") from None


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return pybase64.b64encode_as_string(value)
    if isinstance(value, Timestamp):
        return value.ms / 1000
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _tagged(encoder: Any, value: Any) -> None:
    if not isinstance(value, Timestamp):
        raise TypeError(f"{type(value).__name__} cannot be written as CBOR")
    encoder.encode_semantic(EPOCH_TAG, value.ms)
