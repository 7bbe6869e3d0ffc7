"""Exactly-once Parquet that any reader can read: the chain of files, on a store.

One conditional PUT is the data and the commit. Dead letters have the chain for their ledger: a file's footer holds
those of its range, and their own object, a pure function of the footer, is written before the range counts as durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import ConfigError, Fatal
from pipeline.record import Position, Record, Shard
from pipeline.sinks import OnDurable
from pipeline.sinks.chain import (
    DEAD,
    DEAD_LETTERS,
    PREVIOUS_END,
    WRITER,
    Chain,
    File,
    Names,
    end_of,
    first_of,
    letters_key,
)
from pipeline.sinks.dead_letter import lines
from pipeline.sinks.driver import Committer, Driver
from pipeline.sinks.schema import TableSchema, encode, read_schema
from pipeline.sinks.store import Metadata, ObjectStore

MIB = 1024 * 1024


class ParquetSink:
    """One table: a generation below a store's root. ``dead_letters``: where they go, if this sink keeps them."""

    def __init__(
        self,
        *,
        name: str,
        store: ObjectStore,
        generation: int,
        flush_interval_s: float,
        flush_mib: float,
        schema: TableSchema,
        dead_letters: ObjectStore | None,
        on_put: Callable[[int], None] = lambda size_bytes: None,
        on_retry: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._store = store
        self._generation = generation
        self._flush_interval_s = flush_interval_s
        self._flush_bytes = int(flush_mib * MIB)
        self._schema = schema
        self._dead_letters = dead_letters
        self._on_put = on_put
        self._on_retry = on_retry

    async def check(self) -> None:
        """The stores can be used, and the generation's files, if any, have this schema."""
        await asyncio.to_thread(self._check)

    def open(self, shard: Shard, on_durable: OnDurable, on_fatal: Callable[[BaseException], None]) -> Driver:
        names = Names(shard, self._generation)
        chain = Chain(names, flush_interval_s=self._flush_interval_s, flush_bytes=self._flush_bytes)
        files = Files(self._store, names, self._schema, self._dead_letters, self._on_put)
        return Driver(chain, files, on_durable, on_fatal, on_retry=self._on_retry)

    async def close(self) -> None:
        return

    def _check(self) -> None:
        self._store.check()
        if self._dead_letters is not None:
            self._dead_letters.check()
        keys = self._store.list(f"v={self._generation}/")
        body = self._store.get(keys[-1]) if keys else None
        if body is not None and not read_schema(body).equals(self._schema.schema):
            raise ConfigError(
                "sink.generation",
                f"{self._generation} has files with other columns ({self.name})",
                f"Set it to {self._generation + 1}: readers take one file's columns for all.",
            )


class Files(Committer):
    """One shard's files on a store: written, adopted, and found again."""

    def __init__(
        self,
        store: ObjectStore,
        names: Names,
        schema: TableSchema,
        dead_letters: ObjectStore | None,
        on_put: Callable[[int], None] = lambda size_bytes: None,
    ) -> None:
        self._store = store
        self._names = names
        self._schema = schema
        self._dead_letters = dead_letters
        self._on_put = on_put

    def prepare(self, file: File, writer: str) -> Callable[[], Position]:
        now = datetime.now(UTC)
        letters = lines(file.records, self._schema, now) if self._dead_letters is not None else b""
        metadata = file.metadata(writer)
        body = encode(self._schema.table(file.records, now), {**metadata, DEAD_LETTERS: letters.decode()})

        def put() -> Position:
            if self._store.put_new(file.key, body, metadata):
                self._on_put(len(body))
                self._put_letters(file.key, letters)
                return file.end
            return self._taken(file, writer, letters)

        return put

    def _taken(self, file: File, writer: str, letters: bytes) -> Position:
        """The key exists: by this very write, whose answer was lost, or by another writer, whose file is as good."""
        metadata = self._store.head(file.key)
        if metadata is None:
            raise Fatal(f"{file.key} exists and cannot be found: is something deleting files of the table?")
        if metadata[WRITER] == writer:
            self._put_letters(file.key, letters)
            return file.end
        self._adopt(file.key, metadata)
        return end_of(metadata)

    def held(self, first: Record, checkpoint: Position | None) -> Position | None:
        """Follow the list from the file that covers ``first``, if there is one.

        A file's records are of one day, and it lies under that day: the covering file is under the record's own. So
        this finds it from any checkpoint, also one moved back into the middle of a file, and from none at all.
        """
        keys = self._store.list(self._names.day(first.arrived_ms))
        starts = [key for key in keys if first_of(key) <= first.position.sequence]
        if not starts:
            return None
        end = self._end(starts[-1])
        if end < first.position:
            return None
        later = keys[len(starts) :]
        for key in later:
            metadata = self._store.head(key)
            if metadata is None or metadata[PREVIOUS_END] != str(end):
                break
            self._adopt(key, metadata)
            end = end_of(metadata)
        return end

    def _end(self, key: str) -> Position:
        metadata = self._store.head(key)
        if metadata is None:
            raise Fatal(f"{key} was listed and cannot be found: is something deleting files of the table?")
        self._adopt(key, metadata)
        return end_of(metadata)

    def _adopt(self, key: str, metadata: Metadata) -> None:
        """Another writer's file is good; its dead letters may not have been written before that writer ended."""
        if self._dead_letters is None or metadata[DEAD] == "0":
            return
        body = self._store.get(key)
        if body is None:
            raise Fatal(f"{key} was there and cannot be found: is something deleting files of the table?")
        footer = pq.read_metadata(pa.BufferReader(body)).metadata
        self._put_letters(key, footer[DEAD_LETTERS.encode()])

    def _put_letters(self, key: str, letters: bytes) -> None:
        if self._dead_letters is not None and letters:
            self._dead_letters.put_new(letters_key(key), letters, {})
