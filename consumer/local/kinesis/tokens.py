"""Shard iterators and next tokens: opaque to clients. They hold all that the engine needs to continue."""

from __future__ import annotations

import binascii
import zlib
from base64 import b64decode, b64encode
from typing import Any, NamedTuple

import orjson

from consumer.local.kinesis.errors import KinesisError, invalid

LIFETIME_MS = 300_000
"""Iterators and next tokens are valid for five minutes (API reference of GetShardIterator and ListShards)."""


def seal(content: list[Any]) -> str:
    """Encode JSON values as an opaque token with a checksum. :func:`unseal` decodes it."""
    raw = orjson.dumps(content)
    return b64encode(zlib.crc32(raw).to_bytes(4) + raw).decode()


def unseal(token: str) -> list[Any]:
    """Return the values that :func:`seal` encoded.

    :raises ValueError: if the token was altered or is not one.
    """
    try:
        sealed = b64decode(token, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if int.from_bytes(sealed[:4]) != zlib.crc32(sealed[4:]):
        raise ValueError("altered token")
    content: list[Any] = orjson.loads(sealed[4:])
    return content


class Iterator(NamedTuple):
    """A position in a shard. ``stream_created_ms`` tells a stream from an earlier one with the same name."""

    stream: str
    stream_created_ms: int
    shard_id: str
    position: int
    issued_ms: int

    def __str__(self) -> str:
        return seal(["iterator", *self])

    @classmethod
    def parse(cls, text: str, now_ms: int) -> Iterator:
        """Parse an iterator. It may be in double quotes, as the AWS CLI prints it.

        :raises KinesisError: if it is not one, or is older than ``LIFETIME_MS``.
        """
        try:
            kind, *fields = unseal(text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text)
            iterator = cls(*fields)
        except (ValueError, TypeError):
            raise invalid("Invalid ShardIterator.") from None
        if kind != "iterator":
            raise invalid("Invalid ShardIterator.")
        if now_ms - iterator.issued_ms > LIFETIME_MS:
            raise KinesisError(
                "ExpiredIteratorException",
                f"Iterator expired. The iterator was created at time {iterator.issued_ms} while right now it is "
                f"{now_ms}, which is further in the future than the tolerated delay of {LIFETIME_MS} milliseconds.",
            )
        return iterator


def next_token(kind: str, now_ms: int, *content: Any) -> str:
    """Return a token that :func:`parse_next_token` accepts for ``LIFETIME_MS``."""
    return seal([kind, now_ms, *content])


def parse_next_token(kind: str, text: str, now_ms: int) -> list[Any]:
    """Return the content of a next token of this kind.

    :raises KinesisError: if it is of another kind, is not one, or has expired.
    """
    try:
        found, issued_ms, *content = unseal(text)
    except (ValueError, TypeError):
        raise invalid("NextToken is invalid.") from None
    if found != kind:
        raise invalid("NextToken is invalid.")
    if now_ms - issued_ms > LIFETIME_MS:
        raise KinesisError("ExpiredNextTokenException", "NextToken has expired.")
    return content
