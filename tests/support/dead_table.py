"""A table with dead letters, written by the product's own code."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson
import pyarrow as pa

from pipeline.record import Dead, Enriched, Record, Shard
from pipeline.sinks.chain import Chain
from pipeline.sinks.parquet import Files
from pipeline.stores.base import ObjectStore
from pipeline.stores.memory import MemoryStore
from pipeline.table.audit import AuditReport, audit
from pipeline.table.names import Names
from pipeline.table.schema import TableSchema
from pipeline.table.staged_letters import Ledger

ROWS = pa.schema([("n", pa.int64())])
STREAM = "events"
SHARD = Shard(STREAM, 1, "shardId-000000000000")
DAY_MS = 24 * 60 * 60 * 1000
FIRST_MS = 1_794_960_000_000


@dataclass(frozen=True, slots=True)
class Fate:
    """The first outcome of a record. ``dead``: why it has no row; empty if it has one."""

    n: int
    dead: Dead | None = None


def dead(n: int, kind: str = "exception", reason: str = "bad", payload: bytes | None = None) -> Fate:
    data = orjson.dumps({"n": n}) if payload is None else payload
    return Fate(n, Dead(data, reason, "Traceback: here", 2, kind))


@dataclass
class DeadTable:
    """``per_day``: sequence numbers of a day. Every file has ``per_file`` records."""

    table: ObjectStore = field(default_factory=MemoryStore)
    letters: ObjectStore = field(default_factory=MemoryStore)
    staged: ObjectStore = field(default_factory=MemoryStore)
    notes: ObjectStore = field(default_factory=MemoryStore)
    schema: TableSchema = field(default_factory=lambda: TableSchema(ROWS, STREAM, "m1"))
    per_file: int = 4
    per_day: int = 10

    def write(self, fates: Sequence[Fate], shard: Shard = SHARD) -> None:
        chain = Chain(Names(shard), flush_interval_s=0, flush_bytes=10**6)
        files = Files(self.table, Names(shard), self.schema, Ledger(self.letters, self.staged))
        for place, fate in enumerate(fates, 1):
            chain.add([self._record(fate, shard)], 0.0)
            if place % self.per_file == 0:
                chain.seal()
        chain.seal()
        while file := chain.next(0.0):
            chain.written(files.prepare(file, uuid.uuid4().hex)())

    def _record(self, fate: Fate, shard: Shard) -> Record:
        day_ms = FIRST_MS + fate.n // self.per_day * DAY_MS
        record = Record(shard.shard_id, b"", f"key-{fate.n}", str(fate.n), 0, day_ms)
        record.outcome = fate.dead or Enriched(pa.RecordBatch.from_pylist([{"n": fate.n}], schema=ROWS), 0)
        return record

    def audit(self) -> AuditReport:
        return audit(self.table, self.letters)
