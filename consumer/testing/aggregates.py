"""Aggregates as producers write them, good and bad."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.kpl_writer import explicit_hash_key, field, partition_key, sealed, user, varint

__all__ = ["aggregate", "field", "sealed", "user", "varint"]


def aggregate(payloads: Iterable[bytes], keys: Sequence[str] = ("key",), hash_keys: Sequence[str] = ()) -> bytes:
    """Encode an aggregate whose user records have the first partition key, and the first explicit hash key if any."""
    tables = [*map(partition_key, keys), *map(explicit_hash_key, hash_keys)]
    return sealed(b"".join([*tables, *(user(data, 0, 0 if hash_keys else None) for data in payloads)]))
