"""Exactly-once Parquet that any reader can read: the chain of files, on a store.

One conditional PUT is the data and the commit. Dead letters have the chain for their ledger: a file's footer holds
those of its range, and their own object, a pure function of the footer, is written before the range counts as durable.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from bisect import bisect_right
from collections.abc import Awaitable, Callable
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
    day_of,
    end_of,
    first_of,
    letters_key,
)
from pipeline.sinks.dead_letter import lines
from pipeline.sinks.driver import Committer, Driver
from pipeline.sinks.persist import Threads, at_start
from pipeline.sinks.schema import TableSchema, encode, read_schema
from pipeline.sinks.store import Metadata, ObjectStore
from pipeline.troubles import PATIENCE_S, Troubles

log = logging.getLogger("sink.parquet")

MIB = 1024 * 1024


class ParquetSink:
    """One table: a generation below a store's root. ``dead_letters``: where they go, if this sink keeps them."""

    wants_payloads = False

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
        troubles: Troubles | None = None,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
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
        self._troubles = troubles or Troubles(clock)
        self._patience_s = patience_s
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._threads = Threads("sink-parquet")
        self._writers: weakref.WeakSet[Driver] = weakref.WeakSet()

    async def check(self) -> None:
        """The stores can be used, and the generation's files, if any, have this schema."""
        await at_start(self._check, self._threads, self._sleep)

    def open(self, shard: Shard, on_durable: OnDurable, on_fatal: Callable[[BaseException], None]) -> Driver:
        names = Names(shard, self._generation)
        chain = Chain(names, flush_interval_s=self._flush_interval_s, flush_bytes=self._flush_bytes)
        files = Files(self._store, names, self._schema, self._dead_letters, self._on_put, now=self._now)
        writer = Driver(
            chain,
            files,
            on_durable,
            on_fatal,
            call=self._threads,
            part=self._troubles.part(self.name, self._patience_s),
            on_retry=self._on_retry,
            clock=self._clock,
            sleep=self._sleep,
        )
        self._writers.add(writer)
        return writer

    async def close(self) -> None:
        """Give up what is not written. A call under way ends in its own time, and nobody hears of it."""
        for writer in list(self._writers):
            writer.abandon()
        self._threads.close()

    def _check(self) -> None:
        for store in (self._store, self._dead_letters):
            if store is not None:
                store.check()
        keys = self._store.list(f"v={self._generation}/", limit=1)
        body = self._store.get(keys[0]) if keys else None
        if body is not None and not read_schema(body).equals(self._schema.written):
            raise ConfigError(
                "sink.generation",
                f"{self._generation} has files with other columns ({self.name})",
                f"Set it to {self._generation + 1}: readers take one file's columns for all.",
            )


def goes_on(metadata: Metadata, end: Position) -> bool:
    """Whether a file goes on where another ended."""
    previous_end = metadata[PREVIOUS_END]
    return bool(previous_end) and Position.parse(previous_end).goes_on_from(end)


class Files(Committer):
    """One shard's files on a store: written, adopted, and found again. One session's, used by one thread at a time."""

    def __init__(
        self,
        store: ObjectStore,
        names: Names,
        schema: TableSchema,
        dead_letters: ObjectStore | None,
        on_put: Callable[[int], None] = lambda size_bytes: None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._names = names
        self._schema = schema
        self._dead_letters = dead_letters
        self._on_put = on_put
        self._now = now
        self._listed: tuple[str, list[str]] = ("", [])

    def prepare(self, file: File, writer: str) -> Callable[[], Position]:
        """A file never runs into one that is there: after a replay from before the list's first, they meet."""
        if ahead := self._ahead(file):
            file = file.before(first_of(ahead))
        now = self._now()
        letters = lines(file.records, self._schema, now) if self._dead_letters is not None else b""
        metadata = file.metadata(writer)
        body = encode(self._schema.table(file.records, now), {**metadata, DEAD_LETTERS: letters.decode()})

        def put() -> Position:
            if self._store.put_new(file.key, body, metadata):
                self._on_put(len(body))
                self._put_letters(file.key, letters, writer)
                return file.end
            return self._taken(file, writer, letters)

        return put

    def held(self, first: Record, checkpoint: Position | None) -> Position | None:
        """Follow the list from the file that covers ``first``, if there is one.

        A file's records are of one day, and it lies under that day: the covering file is under the record's own. So
        this finds it from any checkpoint, also one moved back into the middle of a file, and from none at all.
        """
        keys = self._list(self._names.day(first.arrived_ms))
        before = bisect_right(keys, self._names.key(first))
        if not before:
            return None
        metadata = self._head(keys[before - 1])
        if end_of(metadata) < first.position:
            return None
        return self._follow(keys[before - 1], metadata)

    def _ahead(self, file: File) -> str | None:
        """The first file that begins within this one's range, and not where it begins."""
        day = day_of(file.key)
        keys = self._listed[1] if self._listed[0] == day else self._list(day)
        after = bisect_right(keys, file.key)
        return keys[after] if after < len(keys) and first_of(keys[after]) <= file.end.sequence else None

    def _taken(self, file: File, writer: str, letters: bytes) -> Position:
        """The key exists: by this very write, whose answer was lost, or by another writer, whose file is as good."""
        metadata = self._head(file.key)
        if metadata[WRITER] == writer:
            self._put_letters(file.key, letters, writer)
            return file.end
        log.info("%s is another writer's: adopted", file.key)
        self._list(day_of(file.key))
        return self._follow(file.key, metadata)

    def _follow(self, key: str, metadata: Metadata) -> Position:
        """Adopt the file and those that go on from it, as far as the list goes."""
        while True:
            self._adopt(key, metadata)
            end = end_of(metadata)
            following = self._after(key, end)
            if following is None:
                return end
            key, metadata = following

    def _after(self, key: str, end: Position) -> tuple[str, Metadata] | None:
        """The file that goes on from ``end``: of the same day, or of the next."""
        for day in (day_of(key), self._names.day_after(key)):
            keys = self._listed[1] if self._listed[0] == day else self._list(day)
            later = next((each for each in keys if first_of(each) > end.sequence), None)
            if later is not None:
                metadata = self._head(later)
                return (later, metadata) if goes_on(metadata, end) else None
        return None

    def _list(self, day: str) -> list[str]:
        keys = self._store.list(day)
        self._listed = (day, keys)
        return keys

    def _head(self, key: str) -> Metadata:
        metadata = self._store.head(key)
        if metadata is None:
            raise Fatal(f"{key} was there and cannot be found: is something deleting files of the table?")
        return metadata

    def _adopt(self, key: str, metadata: Metadata) -> None:
        """A file is good whoever wrote it; its dead letters may not have been written before that writer ended."""
        if self._dead_letters is None or metadata[DEAD] == "0":
            return
        body = self._store.get(key)
        if body is None:
            raise Fatal(f"{key} was there and cannot be found: is something deleting files of the table?")
        footer = pq.read_metadata(pa.BufferReader(body)).metadata
        self._put_letters(key, footer.get(DEAD_LETTERS.encode(), b""), metadata[WRITER])

    def _put_letters(self, key: str, letters: bytes, writer: str) -> None:
        """Once, however often it is called. Tables that share the place of their dead letters keep apart."""
        if self._dead_letters is None or not letters:
            return
        name = letters_key(key)
        if not self._dead_letters.put_new(name, letters, {}) and self._dead_letters.get(name) != letters:
            self._dead_letters.put_new(f"{name.removesuffix('.jsonl')}-{writer}.jsonl", letters, {})
