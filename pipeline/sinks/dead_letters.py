"""Dead letters: records that will never be rows, as JSON lines with what is needed to find the cause and to replay
them.
"""

from __future__ import annotations

import base64
import uuid
from bisect import bisect_right
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Unpack

import orjson

from pipeline.record import Dead, Position, Record
from pipeline.sinks.chain import File
from pipeline.sinks.chain_sink import Around, ChainSink
from pipeline.sinks.chain_writer import Committer
from pipeline.stores.base import ObjectStore
from pipeline.table.names import LETTERS, Names, day_of, letters_apart, letters_key
from pipeline.table.schema import TableSchema
from pipeline.table.staged_letters import read_letters

DEAD_LETTER = "dead-letter"
"""The name of the sink, among outages and in metrics."""

FLUSH_INTERVAL_S = 5.0
FLUSH_BYTES = 8 * 1024 * 1024


def lines(records: Iterable[Record], schema: TableSchema, failed_at: datetime) -> bytes:
    """Return a line for each dead record, in order; empty if there is none."""
    return b"".join(
        line(record, record.outcome, schema, failed_at) for record in records if isinstance(record.outcome, Dead)
    )


def line(record: Record, dead: Dead, schema: TableSchema, failed_at: datetime) -> bytes:
    """Return one dead letter: a JSON object and a line feed."""
    arrived_at = datetime.fromtimestamp(record.arrived_ms / 1000, UTC)
    letter = {
        "record_id": record.record_id(schema.stream),
        "stream": schema.stream,
        "shard_id": record.shard_id,
        "sequence_number": record.sequence,
        "sub_sequence_number": record.sub,
        "partition_key": record.partition_key and _printable(record.partition_key),
        "arrived_at": arrived_at.isoformat(timespec="milliseconds"),
        "failed_at": failed_at.isoformat(timespec="milliseconds"),
        "kind": dead.kind,
        "sink": dead.sink or None,
        "reason": _printable(dead.reason),
        "traceback": _printable(dead.traceback),
        "attempts": dead.attempts,
        "model_version": schema.model_version,
        "payload_base64": base64.b64encode(dead.payload).decode(),
    }
    return orjson.dumps(letter) + b"\n"


def _printable(text: str) -> str:
    """Replace lone surrogates, which a model's message may contain and JSON must not."""
    return text.encode("utf-8", "replace").decode()


class DeadLetterSink(ChainSink):
    """Keeps the dead letters of a task without a Parquet sink: one object for each range that has any.

    An object is named after its first letter, and a name is taken once. A letter that is already in an object, of any
    writer, is not written again.
    """

    def __init__(
        self,
        store: ObjectStore,
        schema: TableSchema,
        *,
        flush_interval_s: float = FLUSH_INTERVAL_S,
        **around: Unpack[Around],
    ) -> None:
        super().__init__(
            name=DEAD_LETTER, store=store, flush_interval_s=flush_interval_s, flush_bytes=FLUSH_BYTES, **around
        )
        self._schema = schema

    def _committer(self, names: Names) -> Committer:
        return Letters(self._store, names, self._schema, now=self._now)


class Letters(Committer):
    """Writes the dead letters of a range; writes nothing if there are none."""

    def __init__(self, store: ObjectStore, names: Names, schema: TableSchema, *, now: Callable[[], datetime]) -> None:
        self._store = store
        self._names = names
        self._schema = schema
        self._now = now

    def prepare(self, file: File, writer: str) -> Callable[[], Position]:
        """Encode the dead letters. Return a function that writes those that no object has yet. See
        :meth:`Committer.prepare`.
        """
        now = self._now()
        letters = {
            self._key(record): line(record, record.outcome, self._schema, now)
            for record in file.records
            if isinstance(record.outcome, Dead)
        }

        def put() -> Position:
            if letters:
                self._put(letters)
            return file.end

        return put

    def held(self, first: Record, checkpoint: Position | None) -> Position | None:
        """Return None: dead letters alone do not tell how far a shard was processed."""
        return None

    def _put(self, letters: dict[str, bytes]) -> None:
        """Write the letters that no object has. ``letters`` are in sequence order, by the key of an object that
        begins there.
        """
        first, last = min(letters), max(letters)
        keys = [key for key in self._store.list(day_of(first)) if LETTERS.fullmatch(key)]
        missing = letters
        for key in keys[max(0, bisect_right(keys, first) - 1) : bisect_right(keys, last)]:
            missing = self._without(missing, key)
        while missing:
            first = next(iter(missing))
            if self._store.put_new(first, b"".join(missing.values()), {}):
                return
            missing = self._without(missing, first)
            if first in missing:  # another object has the name
                self._store.put_new(letters_apart(first, uuid.uuid4().hex), b"".join(missing.values()), {})
                return

    def _without(self, letters: dict[str, bytes], key: str) -> dict[str, bytes]:
        """Return the letters that this object does not have. An object that is not one of dead letters has none."""
        held = _ids(read_letters(self._store, key) or b"")
        return {each: line for each, line in letters.items() if orjson.loads(line)["record_id"] not in held}

    def _key(self, record: Record) -> str:
        return letter_key(self._names, record)


def _ids(body: bytes) -> set[str]:
    try:
        return {str(orjson.loads(line)["record_id"]) for line in body.splitlines()}
    except (ValueError, LookupError, TypeError):
        return set()


def letter_key(names: Names, record: Record) -> str:
    """Return the key by sequence and sub-sequence number: any user record of an aggregate may be the first letter."""
    return letters_key(names.key(record))
