"""Aggregates as producers write them, good and bad: KPL's format, put together by hand from its definition."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from pipeline.kpl import MAGIC


def varint(number: int) -> bytes:
    """As protobuf writes a number."""
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    return bytes([*made, number])


def field(number: int, data: bytes) -> bytes:
    """A field of a length."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def user(data: bytes, key: int = 0, hash_key: int | None = None) -> bytes:
    """A user record, by the indices of its keys."""
    explicit = b"" if hash_key is None else b"\x10" + varint(hash_key)
    return field(3, b"\x08" + varint(key) + explicit + field(3, data))


def sealed(message: bytes) -> bytes:
    """Any bytes as an aggregate's message."""
    return MAGIC + message + hashlib.md5(message, usedforsecurity=False).digest()


def aggregate(payloads: Iterable[bytes], keys: Sequence[str] = ("key",), hash_keys: Sequence[str] = ()) -> bytes:
    """User records that all have the first partition key, and the first explicit hash key if there is one."""
    tables = [field(1, key.encode()) for key in keys] + [field(2, key.encode()) for key in hash_keys]
    return sealed(b"".join([*tables, *(user(data, 0, 0 if hash_keys else None) for data in payloads)]))
