"""Exactly-once Parquet that any reader can read: the chain of files, on a store.

One conditional PUT is the data and the commit. Dead letters have the chain for their ledger: see
:mod:`pipeline.table.staged_letters`.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial

import pyarrow as pa

from pipeline.errors import ConfigError, Fatal
from pipeline.outages import GIVE_UP_AFTER_S, Outages
from pipeline.record import Position, Record, Shard
from pipeline.sinks import NOBODY, OnDurable, SinkEvents
from pipeline.sinks.chain import Chain, File
from pipeline.sinks.chain_writer import ChainWriter, Committer
from pipeline.sinks.dead_letters import lines
from pipeline.sinks.writable import ROW_FAULTS, cut, without_unwritable
from pipeline.stores.base import Metadata, ObjectStore
from pipeline.stores.calls import Threads, at_start
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
"""At start: keys of the table, and files among them until one can be read."""


class ParquetSink:
    """One table: what lies below a store's root. ``ledger``: where its dead letters go, if this sink keeps them."""

    wants_payloads = False

    def __init__(
        self,
        *,
        name: str,
        store: ObjectStore,
        flush_interval_s: float,
        flush_mib: float,
        schema: TableSchema,
        ledger: Ledger | None,
        events: SinkEvents = NOBODY,
        outages: Outages | None = None,
        give_up_after_s: float = GIVE_UP_AFTER_S,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self._store = store
        self._flush_interval_s = flush_interval_s
        self._flush_bytes = int(flush_mib * MIB)
        self._schema = schema
        self._ledger = ledger
        self._events = events
        self._troubles = outages or Outages(clock)
        self._give_up_after_s = give_up_after_s
        self._clock = clock
        self._now = now
        self._sleep = sleep
        self._threads = Threads("sink-parquet")
        self._writers: weakref.WeakSet[ChainWriter] = weakref.WeakSet()

    async def check(self) -> None:
        """The stores can be used, and the table's files, if any, have this schema."""
        await at_start(self._check, self._threads, self._sleep)

    def open(self, shard: Shard, on_durable: OnDurable, on_fatal: Callable[[BaseException], None]) -> ChainWriter:
        names = Names(shard)
        chain = Chain(names, flush_interval_s=self._flush_interval_s, flush_bytes=self._flush_bytes)
        files = Files(
            self._store,
            names,
            self._schema,
            self._ledger,
            name=self.name,
            events=self._events,
            now=self._now,
        )
        writer = ChainWriter(
            chain,
            files,
            on_durable,
            on_fatal,
            call=self._threads,
            part=self._troubles.part(self.name, self._give_up_after_s),
            on_retry=self._events.on_retry,
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
        self._store.check()
        if self._ledger is not None:
            self._ledger.check()
        written = self._written_schema()
        if written is not None and not written.equals(self._schema.written):
            raise ConfigError(
                "sink.url",
                f"the table has files with other columns ({self.name})",
                "Write to a new url: readers take one file's columns for all. To write the whole stream anew, use a "
                "new stream.application too.",
            )

    def _written_schema(self) -> pa.Schema | None:
        """The columns of a file of the table's; None if there is none that can be read."""
        keys = [key for key in self._store.list("dt=", limit=LOOKED_AT) if TABLE_FILE.fullmatch(key)]
        for key in keys[:SCHEMAS_TRIED]:
            file = without_rows(self._store, key)
            if is_ours(footer_of(file)):
                return read_schema(file)
        return None


class Files(Committer):
    """One shard's files on a store: written, adopted, and found again. One session's, used by one thread at a time.

    What lies below the table and is none of its files is passed over, whatever it is called; but for one that has the
    very name of the file to be written.
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
        """A file never runs into one that is there: after a replay from before the list's first, they meet."""
        if ahead := self._ahead(file):
            file = file.before(first_of(ahead))
        file = cut(file, self._schema.table)
        try:
            return self._written(file, writer)
        except MemoryError:
            raise
        except ROW_FAULTS:
            log.debug("%s: not as a whole", file.key, exc_info=True)
            alone = partial(_encodable, self._schema)
            mended = without_unwritable(file, alone, self._name)
            self._events.on_refused(len(mended.dead) - len(file.dead))
            return self._written(mended, writer)

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

        A file's records are of one day, and it lies under that day: the covering file is under the record's own. So
        this finds it from any checkpoint, also one moved back into the middle of a file, and from none at all.
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
        """The first file that begins within this one's range, and not where it begins."""
        day = day_of(file.key)
        keys = self._listed[1] if self._listed[0] == day else self._list(day)
        for key in keys[bisect_right(keys, file.key) :]:
            if first_of(key) > file.end:
                return None
            if self._metadata(key):
                return key
        return None

    def _taken(self, file: File, writer: str, letters: bytes) -> Position:
        """The key exists: by this very write, whose answer was lost, or by another writer, whose file is as good."""
        metadata = self._metadata(file.key)
        if metadata is None:
            raise Fatal(f"{file.key} is in the way, and no file of this table's (it has no footer of ours). Remove it")
        if metadata[WRITER] == writer:
            self._finish(file.key, writer, letters)
            return file.end
        log.info("%s is another writer's: adopted", file.key)
        self._list(day_of(file.key))
        return self._follow(file.key, metadata)

    def _follow(self, key: str, metadata: Metadata) -> Position:
        """Adopt the file and those that go on from it, as far as the list goes."""
        while True:
            self._adopt(key, metadata)
            end = end_of(metadata)
            following = self._after(key, metadata)
            if following is None:
                return end
            key, metadata = following

    def _after(self, key: str, ended: Metadata) -> tuple[str, Metadata] | None:
        """The file that goes on from where that one ended: of the same day, or of the next."""
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
        """The object's own, or its footer's, for objects that were copied without; None if it is no file of ours."""
        for read in (self._store.head, partial(footer_in, self._store)):
            metadata = read(key)
            if metadata is not None and is_ours(metadata):
                return metadata
        log.warning("%s has the name of a file of the table's and is none: passed over", key)
        return None

    # -- dead letters

    def _stage(self, writer: str, letters: bytes) -> None:
        if self._ledger is not None:
            self._ledger.stage(writer, letters)

    def _finish(self, key: str, writer: str, letters: bytes) -> None:
        if self._ledger is not None:
            self._ledger.finish(key, writer, letters)

    def _adopt(self, key: str, metadata: Metadata) -> None:
        """A file is good whoever wrote it; its dead letters may not have been written before that writer ended."""
        if self._ledger is not None and self._ledger.complete(key, metadata):
            log.info("%s: its writer ended before its dead letters were written; they are now", key)


def _encodable(schema: TableSchema, records: Sequence[Record]) -> None:
    encode(schema.table(records), {})


def _tell_of_a_lost_rest(key: str, metadata: Metadata, first: Position) -> None:
    """A session cannot have the rest of an aggregate that KCL's checkpoint is behind of; an earlier one could."""
    end = end_of(metadata)
    if not ends_whole(metadata) and first != Position(end.sequence, end.sub + 1):
        log.error(
            "%s ends at %s, within an aggregate, and the session goes on at %s: the rest of the aggregate is in no "
            "file. Put back the file that held it, or move the checkpoint to before %s: who begins there writes it",
            key,
            end,
            first,
            end.sequence,
        )
