"""Records that will never be rows: as JSON lines, with all that is needed to find out why and to try again."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import orjson

from pipeline.record import Dead, Position, Record, Shard
from pipeline.sinks import OnDurable
from pipeline.sinks.chain import Chain, File, Names, letters_key
from pipeline.sinks.driver import Committer, Driver
from pipeline.sinks.schema import TableSchema
from pipeline.sinks.store import ObjectStore

FLUSH_INTERVAL_S = 5.0
FLUSH_BYTES = 8 * 1024 * 1024


def lines(records: Iterable[Record], schema: TableSchema, failed_at: datetime) -> bytes:
    """A line for each dead record, in order; empty if there is none."""
    return b"".join(
        _line(record, record.outcome, schema, failed_at) for record in records if isinstance(record.outcome, Dead)
    )


def _line(record: Record, dead: Dead, schema: TableSchema, failed_at: datetime) -> bytes:
    arrived_at = datetime.fromtimestamp(record.arrived_ms / 1000, UTC)
    letter = {
        "record_id": record.record_id(schema.stream),
        "stream": schema.stream,
        "shard_id": record.shard_id,
        "sequence_number": record.sequence,
        "sub_sequence_number": record.sub,
        "partition_key": record.partition_key,
        "arrived_at": arrived_at.isoformat(timespec="milliseconds"),
        "failed_at": failed_at.isoformat(timespec="milliseconds"),
        "kind": dead.kind,
        "reason": _printable(dead.reason),
        "traceback": _printable(dead.traceback),
        "attempts": dead.attempts,
        "model_version": schema.model_version,
        "payload_base64": base64.b64encode(dead.payload).decode(),
    }
    return orjson.dumps(letter) + b"\n"


def _printable(text: str) -> str:
    """Without lone surrogates, which a model's message may have and JSON may not."""
    return text.encode("utf-8", "replace").decode()


class DeadLetterSink:
    """The dead letters of a task that has no Parquet sink to keep them by: at least once, one object per stretch.

    An object is named after its first record, and a name is taken once; the stretches of two workers may overlap.
    """

    name = "dead-letter"

    def __init__(self, store: ObjectStore, schema: TableSchema) -> None:
        self._store = store
        self._schema = schema

    async def check(self) -> None:
        await asyncio.to_thread(self._store.check)

    def open(self, shard: Shard, on_durable: OnDurable, on_fatal: Callable[[BaseException], None]) -> Driver:
        chain = Chain(Names(shard, 0), flush_interval_s=FLUSH_INTERVAL_S, flush_bytes=FLUSH_BYTES)
        return Driver(chain, Letters(self._store, self._schema), on_durable, on_fatal)

    async def close(self) -> None:
        return


class Letters(Committer):
    """Writes a stretch's dead letters, and nothing where there are none."""

    def __init__(self, store: ObjectStore, schema: TableSchema) -> None:
        self._store = store
        self._schema = schema

    def prepare(self, file: File, writer: str) -> Callable[[], Position]:
        body = lines(file.records, self._schema, datetime.now(UTC))

        def put() -> Position:
            if body:
                self._store.put_new(letters_key(file.key), body, {})
            return file.end

        return put

    def held(self, first: Record, checkpoint: Position | None) -> Position | None:
        return None
