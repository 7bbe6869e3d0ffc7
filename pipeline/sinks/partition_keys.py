"""Under which key a row goes downstream: its source record's, wherever Kinesis takes it."""

from __future__ import annotations

import hashlib

from pipeline.record import Record

KEY_CHARACTERS = 256
"""The longest partition key (API reference, PutRecords: "Unicode strings, with a maximum length limit of 256
characters"). Whether a character beyond the basic plane counts once or twice, it does not say; here it counts twice."""


def key_for(record: Record, stream: str) -> str:
    """Rows of one key get one key, so that their order is kept; and Kinesis takes whatever this returns.

    A record without a key has nothing to be in order with: it goes by its ``record_id``, which spreads. A key that is
    too long, as one of 256 characters beyond the basic plane may be, goes by its SHA-256.
    """
    key = record.partition_key
    if not key:
        return _taken(record.record_id(stream))
    return key if len(key) <= KEY_CHARACTERS // 2 and key.isascii() else _taken(key)


def _taken(key: str) -> str:
    raw = key.encode("utf-16-le", "surrogatepass")
    if len(raw) // 2 > KEY_CHARACTERS or any("\ud800" <= each <= "\udfff" for each in key):
        return hashlib.sha256(raw).hexdigest()
    return key
