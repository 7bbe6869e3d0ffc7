"""Partition keys, and the hash keys by which Kinesis sends records to shards. Pure."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

HASH_KEYS = 1 << 128

KEY_CHARACTERS = 256
"""The longest partition key of Kinesis (API reference, PutRecord) and of a user record (KPL's ``UserRecord``)."""

KEY_KEPT = 180
"""How many characters are kept of a longer key; its length and SHA-256 follow them."""

HASH_KEY = re.compile(r"([+-]?)0*([0-9]{1,39})", re.ASCII)


class HashRange(NamedTuple):
    """A shard's hash keys, both ends included."""

    first: int
    last: int


def hash_key(text: str) -> int | None:
    """Return the number of an explicit hash key; None if it is not a decimal number in [0, 2^128)."""
    match = HASH_KEY.fullmatch(text)
    number = int("".join(match.groups())) if match else -1
    return number if 0 <= number < HASH_KEYS else None


def bounded(key: str) -> str:
    """Return the key, or its replacement if it is longer than Kinesis and KPL allow. Never longer than
    :data:`KEY_CHARACTERS`.

    A key is in the aggregate once, but in every row and dead letter of its user records. Only bounded keys keep the
    output linear in the input. Equal keys stay equal, and different keys stay different.
    """
    if len(key) <= KEY_CHARACTERS:
        return key
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{key[:KEY_KEPT]}…{len(key)}:{digest}"


def hash_of(partition_key: str) -> int:
    """Return the hash key of a partition key: its MD5."""
    return int.from_bytes(hashlib.md5(partition_key.encode("utf-8", "replace"), usedforsecurity=False).digest())
