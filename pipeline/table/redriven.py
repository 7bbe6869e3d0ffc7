"""Rows of records that were dead letters first. They have files of their own, apart from the shard's list.

The list is not changed: its file still names the record among its dead letters. The redriven rows of a shard's day are
a list of their own, ``dt=<day>/<stream created>-<shard>-redriven-<number>.parquet``, numbered from 0. A writer reads
all earlier files, leaves out the records that they have, and writes the next number only if it is free. So if two
writers redrive the same dead letter, one is first, and the other finds that row before it can write its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pyarrow as pa

from pipeline.errors import Fatal
from pipeline.record import Enriched, Position, Record
from pipeline.stores.base import Metadata, ObjectStore
from pipeline.table import dead_positions
from pipeline.table.footer import KEY, REDRIVEN, REDRIVEN_POSITIONS, WRITER, footer_in, is_redriven
from pipeline.table.names import REDRIVEN_FILE
from pipeline.table.schema import TableSchema, encode
from pipeline.table.seal import BLANK, SHA256, sealed

MOST_RECORDS = 5_000
"""Maximum number of records in one file. The caller also makes sure that their positions fit into a footer."""

MOST_FILES = 10**6
"""The most files of one shard's day: numbers have six digits."""


class RedrivenRows:
    """The redriven rows of one shard's day. ``place``: ``dt=<day>/<stream created>-<shard>``. Calls block.

    Use it from one place at a time; other writers, in any process, may add to the same list meanwhile.
    """

    def __init__(
        self,
        store: ObjectStore,
        place: str,
        schema: TableSchema,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._place = place
        self._schema = schema
        self._now = now
        self._seen: dict[str, frozenset[Position]] = {}

    def held(self) -> set[Position]:
        """Return the positions of all records that have a redriven row now."""
        for key in redriven_keys(self._store, self._place):
            if key not in self._seen:
                self._seen[key] = frozenset(positions_in(self._store, key))
        return set().union(*self._seen.values())

    def add(self, records: Sequence[Record], writer: str) -> None:
        """Write the rows of these enriched records, except those that already have one.

        ``records``: in sequence order, at most :data:`MOST_RECORDS`; each must be a dead letter that a committed file
        of the table names. May be repeated after an error, also by other writers: each record gets one row.
        """
        while fresh := self._without(records, self.held()):
            if self._put(fresh, writer):
                return

    def _without(self, records: Sequence[Record], held: set[Position]) -> list[Record]:
        return [record for record in records if record.position not in held]

    def _put(self, records: Sequence[Record], writer: str) -> bool:
        """Write the next file. False: another writer was first, or an earlier try of this one, whose response was
        lost.
        """
        key = self._next_key()
        positions = [record.position for record in records]
        metadata = {REDRIVEN: str(len(records)), WRITER: writer}
        body = _encoded(self._schema.table(records, self._now()), key, positions, metadata)
        if not self._store.put_new(key, body, metadata):
            return False
        self._seen[key] = frozenset(positions)
        return True

    def _next_key(self) -> str:
        numbers = [int(match["number"]) for key in self._seen if (match := REDRIVEN_FILE.fullmatch(key))]
        number = max(numbers, default=-1) + 1
        if number >= MOST_FILES:
            raise Fatal(f"{self._place} has {number:,} files of redriven rows, the most that it can have")
        return redriven_key(self._place, number)


def redriven_key(place: str, number: int) -> str:
    """Return the key of the file with this number."""
    return f"{place}-redriven-{number:06}.parquet"


def redriven_keys(store: ObjectStore, place: str) -> list[str]:
    """Return the keys of the files of redriven rows of a shard's day, in the order of their numbers."""
    return [key for key in store.list(f"{place}-redriven-") if REDRIVEN_FILE.fullmatch(key)]


def positions_in(store: ObjectStore, key: str) -> list[Position]:
    """Return the positions of the records in the file, as its footer says.

    :raises Fatal: it is not a file of redriven rows.
    """
    footer = footer_in(store, key)
    try:
        if is_redriven(footer):
            return dead_positions.decoded(footer[REDRIVEN_POSITIONS])
    except (KeyError, ValueError):
        pass
    raise Fatal(f"{key} has the name of a file of redriven rows but is not one. Move it elsewhere")


def enriched(records: Sequence[Record]) -> list[Record]:
    """Return the records that have a row."""
    return [record for record in records if isinstance(record.outcome, Enriched)]


def _encoded(table: pa.Table, key: str, positions: Sequence[Position], metadata: Metadata) -> bytes:
    places = dead_positions.encoded(positions)
    footer = {**metadata, KEY: key, REDRIVEN_POSITIONS: places, SHA256: BLANK}
    return sealed(encode(table, footer))
