"""Packs records into KPL aggregates, each for one shard, as the KPL does."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from consumer.aws.put import PutEntry
from pipeline.hash_keys import HashRange, hash_of
from pipeline.kpl_writer import partition_key, sealed, user

AGGREGATE_BYTES = 51_200
"""The KPL's default (AggregationMaxSize)."""

USER_BYTES, KEY_BYTES = 16, 8
"""Maximum bytes that the format adds to a payload and to a key in an aggregate of this size."""


class _Pending:
    """The aggregate for the next records of one shard."""

    def __init__(self, number: int, within: HashRange) -> None:
        self._order = f"shard {number}"
        self._hash_key = str(within.first)
        self._entries: list[PutEntry] = []
        self._keys: dict[str, int] = {}
        self._users: list[bytes] = []
        self._bytes = 0

    def add(self, entry: PutEntry) -> Iterator[PutEntry]:
        """The records to put before ``entry`` is added: none, or a full aggregate."""
        size = (
            len(entry.data) + 16 + (0 if entry.partition_key in self._keys else len(entry.partition_key.encode()) + 8)
        )
        if self._bytes + size > AGGREGATE_BYTES:
            yield from self.flush()
        if size > AGGREGATE_BYTES:
            yield PutEntry(entry.data, entry.partition_key, self._order, source=entry.source)
            return
        place = self._keys.setdefault(entry.partition_key, len(self._keys))
        self._users.append(user(entry.data, place))
        self._entries.append(entry)
        self._bytes += size

    def flush(self) -> Iterator[PutEntry]:
        """The waiting records as one record. A single one is not packed."""
        if len(self._entries) == 1:
            [alone] = self._entries
            yield PutEntry(alone.data, alone.partition_key, self._order, source=alone.source)
        elif self._entries:
            message = b"".join([*map(partition_key, self._keys), *self._users])
            yield PutEntry(
                sealed(message),
                self._entries[0].partition_key,
                self._order,
                self._hash_key,
                len(self._entries),
                self._entries[0].source,
            )
        self._entries, self._keys, self._users, self._bytes = [], {}, [], 0


def aggregated(entries: Iterable[PutEntry], ranges: Sequence[HashRange]) -> Iterator[PutEntry]:
    """Yield the entries, packed. Records of a key keep their order, because all of them go to one shard.

    ``ranges`` are the hash keys of the stream's open shards. Memory: one aggregate per shard. A record that is larger
    than an aggregate goes alone, in its turn. If a shard is split meanwhile, its aggregates may go to a child that does
    not have the hash keys of some of their records; Penstock delivers those too.
    """
    shards = sorted(ranges)
    firsts = [within.first for within in shards]
    pending = [_Pending(number, within) for number, within in enumerate(shards)]
    for entry in entries:
        yield from pending[bisect_right(firsts, hash_of(entry.partition_key)) - 1].add(entry)
    for each in pending:
        yield from each.flush()
