"""Writes KPL's aggregation format, which :mod:`pipeline.kpl` reads. Pure."""

from __future__ import annotations

import hashlib

from pipeline.kpl import MAGIC

_SHORT = tuple(bytes([number]) for number in range(128))


def varint(number: int) -> bytes:
    """Return a number as protobuf encodes it."""
    if 0 <= number < 128:
        return _SHORT[number]
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    return bytes([*made, number])


def field(number: int, data: bytes) -> bytes:
    """Return a field with a length, such as a text or a message."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def partition_key(key: str) -> bytes:
    """Return an entry of the table of partition keys."""
    return field(1, key.encode("utf-8", "surrogatepass"))


def explicit_hash_key(key: str) -> bytes:
    """Return an entry of the table of explicit hash keys. ``key`` is a decimal number."""
    return field(2, key.encode())


def user(data: bytes, key: int = 0, hash_key: int | None = None) -> bytes:
    """Return a user record. ``key`` and ``hash_key`` are indices into the two tables."""
    explicit = b"" if hash_key is None else b"\x10" + varint(hash_key)
    body = b"\x08" + varint(key) + explicit + b"\x1a" + varint(len(data)) + data
    return b"\x1a" + varint(len(body)) + body


def sealed(message: bytes) -> bytes:
    """Return the message as an aggregate: magic bytes before it, its MD5 after it."""
    return MAGIC + message + hashlib.md5(message, usedforsecurity=False).digest()
