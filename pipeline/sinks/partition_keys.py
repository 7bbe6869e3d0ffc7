"""The partition key of a row on its way downstream: its source record's, wherever Kinesis accepts it."""

from __future__ import annotations

import hashlib

from pipeline.hash_keys import KEY_CHARACTERS
from pipeline.record import Record


def key_for(record: Record, stream: str) -> str:
    """Return the partition key for a record's row. Equal keys give equal keys, so their order is kept. Kinesis accepts
    every result. Its reference does not say whether a character beyond the basic plane counts once or twice; here it
    counts twice.

    A record without a key gets its ``record_id``, which spreads such rows over the shards. A key that is too long (256
    characters beyond the basic plane) is replaced by its SHA-256.
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
