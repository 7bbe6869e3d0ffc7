"""Exactly-once Parquet files that any reader can read: a chain of files in a store.

One conditional PUT writes the data and commits it. Dead letters are part of the commit: see
:mod:`pipeline.table.staged_letters`.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Unpack

import pyarrow as pa

from pipeline.errors import ConfigError, Fatal
from pipeline.record import Position, Record
from pipeline.sinks import NOBODY, SinkEvents
from pipeline.sinks.chain import File
from pipeline.sinks.chain_sink import Around, ChainSink
from pipeline.sinks.chain_writer import Committer
from pipeline.sinks.dead_letters import lines
from pipeline.sinks.writable import ROW_FAULTS, cut, without_unwritable
from pipeline.stores.base import Metadata, ObjectStore
from pipeline.table import dead_positions
from pipeline.table.footer import (
    DEAD_POSITIONS,
    KEY,
    WRITER,
    end_of,
    ends_whole,
    footer_in,
    footer_of,
    goes_on,
    is_ours,
    previous_end_of,
    without_rows,
)
from pipeline.table.names import TABLE_FILE, Names, day_of, first_of, of_day
from pipeline.table.schema import TableSchema, encode, read_schema
from pipeline.table.seal import BLANK, SHA256, sealed
from pipeline.table.staged_letters import Ledger, sha256_of

log = logging.getLogger("sink.parquet")

MIB = 1024 * 1024

LOOKED_AT, SCHEMAS_TRIED = 1_000, 10
"""Checked at start: at most this many keys of the table (``LOOKED_AT``) and files among them, until one can be read."""


class ParquetSink(ChainSink):
    """One table: everything below a store's root. ``ledger``: where its dead letters go, if this sink keeps them.

    ``flush_interval_s``, ``flush_mib``: a file is written after this time, or once its rows have this size in memory.
    """

    def __init__(
        self,
        *,
        name: str,
        store: ObjectStore,
        flush_interval_s: float,
        flush_mib: float,
        schema: TableSchema,
        ledger: Ledger | None,
        **around: Unpack[Around],
    ) -> None:
        flush_bytes = int(flush_mib * MIB)
        super().__init__(name=name, store=store, flush_interval_s=flush_interval_s, flush_bytes=flush_bytes, **around)
        self._schema = schema
        self._ledger = ledger

    def _committer(self, names: Names) -> Committer:
        return Files(self._store, names, self._schema, self._ledger, name=self.name, events=self._events, now=self._now)

    def _check(self) -> None:
        self._store.check()
        if self._ledger is not None:
            self._ledger.check()
        written = self._written_schema()
        if written is not None and not written.equals(self._schema.written):
            raise ConfigError(
                "sink.url",
                f"the table has files with other columns ({self.name})",
                "Write to a new url: readers assume the same columns in all files. To process the whole stream again, "
                "use a new stream.application, too.",
            )

    def _written_schema(self) -> pa.Schema | None:
        """The schema of one of the table's files; None if none can be read."""
        keys = [key for key in self._store.list("dt=", limit=LOOKED_AT) if TABLE_FILE.fullmatch(key)]
        for key in keys[:SCHEMAS_TRIED]:
            file = without_rows(self._store, key)
            if is_ours(footer_of(file)):
                return read_schema(file)
        return None


class Files(Committer):
    """Writes, adopts and finds one shard's files in a store. For one session, used by one thread at a time.

    Other objects below the table are ignored, unless one has the key of the file to write.
    """

    def __init__(
        self,
        store: ObjectStore,
        names: Names,
        schema: TableSchema,
        ledger: Ledger | None,
        *,
        name: str = "parquet",
        events: SinkEvents = NOBODY,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._name = name
        self._events = events
        self._store = store
        self._names = names
        self._schema = schema
        self._ledger = ledger
        self._now = now
        self._listed: tuple[str, list[str]] = ("", [])

    def prepare(self, file: File, writer: str) -> Callable[[], Position]:
        """Encode and stage the file; cut it where another file of the list begins. See :meth:`Committer.prepare`.

        After a replay from before the list's first file, the new files reach that file and continue behind it.
        """
        if ahead := self._ahead(file):
            file = file.before(first_of(ahead))
        file = cut(file, self._schema.table)
        try:
            return self._written(file, writer)
        except MemoryError:
            raise
        except ROW_FAULTS:
            log.debug("%s: cannot be written as a whole", file.key, exc_info=True)
            alone = partial(_encodable, self._schema)
            writable = without_unwritable(file, alone, self._name)
            self._events.on_refused(len(writable.dead) - len(file.dead))
            return self._written(writable, writer)

    def _written(self, file: File, writer: str) -> Callable[[], Position]:
        now = self._now()
        letters = lines(file.records, self._schema, now) if self._ledger is not None else b""
        metadata = file.metadata(writer, sha256_of(letters))
        footer = {**metadata, KEY: file.key, DEAD_POSITIONS: dead_positions.encoded(file.dead), SHA256: BLANK}
        body = sealed(encode(self._schema.table(file.records, now), footer))

        def put() -> Position:
            self._stage(writer, letters)
            if self._store.put_new(file.key, body, metadata):
                self._events.on_put(len(body))
                self._finish(file.key, writer, letters)
                return file.end
            return self._taken(file, writer, letters)

        return put

    def held(self, first: Record, checkpoint: Position | None) -> Position | None:
        """Follow the list from the file that covers ``first``, if there is one.

        A file's records are all of one day, and the file lies under that day; so the covering file lies under the
        record's day. This finds it from any checkpoint, also from one moved back into the middle of a file, and without
        a checkpoint.
        """
        keys = self._list(self._names.day(first.arrived_ms))
        for key in reversed(keys[: bisect_right(keys, self._names.key(first))]):
            if metadata := self._metadata(key):
                if end_of(metadata) >= first.position:
                    return self._follow(key, metadata)
                _tell_of_a_lost_rest(key, metadata, first.position)
                return None
        return None

    def _ahead(self, file: File) -> str | None:
        """The first file that begins inside this one's range, after its beginning."""
        day = day_of(file.key)
        keys = self._listed[1] if self._listed[0] == day else self._list(day)
        for key in keys[bisect_right(keys, file.key) :]:
            if first_of(key) > file.end:
                return None
            if self._metadata(key):
                return key
        return None

    def _taken(self, file: File, writer: str, letters: bytes) -> Position:
        """The key exists: from an earlier try of this write, whose response was lost, or from another writer, whose
        file is as valid.
        """
        metadata = self._metadata(file.key)
        if metadata is None:
            raise Fatal(f"{file.key} has the next file's name but is not a file of this table. Remove it")
        if metadata[WRITER] == writer:
            self._finish(file.key, writer, letters)
            return file.end
        log.info("%s was written by another writer: adopted", file.key)
        self._list(day_of(file.key))
        return self._follow(file.key, metadata)

    def _follow(self, key: str, metadata: Metadata) -> Position:
        """Adopt the file and all that continue it."""
        while True:
            self._adopt(key, metadata)
            end = end_of(metadata)
            following = self._after(key, metadata)
            if following is None:
                return end
            key, metadata = following

    def _after(self, key: str, ended: Metadata) -> tuple[str, Metadata] | None:
        """The file that continues the one with these metadata: of the same day or the next."""
        end = end_of(ended)
        for day in (day_of(key), self._names.day_after(key)):
            keys = self._listed[1] if self._listed[0] == day else self._list(day)
            for later in keys:
                if first_of(later) > end and (metadata := self._metadata(later)):
                    return (later, metadata) if goes_on(first_of(later), previous_end_of(metadata), ended) else None
        return None

    def _list(self, day: str) -> list[str]:
        keys = of_day(self._store.list(day), day)
        self._listed = (day, keys)
        return keys

    def _metadata(self, key: str) -> Metadata | None:
        """The object's metadata, or that of its footer if the object was copied without; None if it is not a file of
        the table.
        """
        for read in (self._store.head, partial(footer_in, self._store)):
            metadata = read(key)
            if metadata is not None and is_ours(metadata):
                return metadata
        log.warning("%s has the name of a table's file but is not one: ignored", key)
        return None

    # -- dead letters

    def _stage(self, writer: str, letters: bytes) -> None:
        if self._ledger is not None:
            self._ledger.stage(writer, letters)

    def _finish(self, key: str, writer: str, letters: bytes) -> None:
        if self._ledger is not None:
            self._ledger.finish(key, writer, letters)

    def _adopt(self, key: str, metadata: Metadata) -> None:
        """Adopt a file, and write its dead letters if its writer ended before it did."""
        if self._ledger is not None and self._ledger.complete(key, metadata):
            log.info("%s: wrote the dead letters that its writer had not written before it ended", key)


def _encodable(schema: TableSchema, records: Sequence[Record]) -> None:
    encode(schema.table(records), {})


def _tell_of_a_lost_rest(key: str, metadata: Metadata, first: Position) -> None:
    """Log that the rest of an aggregate is in no file. KCL's checkpoint is after the whole aggregate, so this
    session cannot read it.
    """
    end = end_of(metadata)
    if not ends_whole(metadata) and first != Position(end.sequence, end.sub + 1):
        log.error(
            "%s ends at %s, inside an aggregate, but the session continues at %s: the rest of the aggregate is in no "
            "file. Restore the file that held it, or move the checkpoint to before %s to write it again",
            key,
            end,
            first,
            end.sequence,
        )
