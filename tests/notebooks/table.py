"""A small run like the demo's: a table by the real sink, real embeddings, dead letters, a worker's metrics."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from examples.demo.corpus import broken, docstrings, library
from examples.minilm import MiniLM
from pipeline.metrics import Metrics
from pipeline.model import LoadContext, Reject
from pipeline.record import LAST_SUB, Dead, Enriched, Position, Record, Run, Shard
from pipeline.sinks import SinkEvents
from pipeline.sinks.parquet import ParquetSink
from pipeline.stores.folder import FolderStore
from pipeline.table.schema import TableSchema
from pipeline.table.staged_letters import Ledger

MODULES = ("bz2", "calendar", "gzip", "json/encoder", "lzma", "queue", "random", "sched", "statistics", "threading")
FEW, SHORT = 8, 250
"""Number of docstrings of each module, and their maximum length in characters, which bounds the time of the model."""

PASSED = {"module": pa.string(), "name": pa.string(), "text": pa.string()}
COLUMNS = pa.schema([*(pa.field(name, kind) for name, kind in PASSED.items()), *MiniLM.output_schema])
FIRST = 10**55
DAY_MS, LAG_MS = 86_400_000, 4_000
FIRST_DAY_MS = 1_795_000_000_000 // DAY_MS * DAY_MS  # 2026-11-18
VERSIONS = {"all-MiniLM-L6-v2": 256, "all-MiniLM-L6-v2, short": 8}
"""The model's versions, one per day, and where each cuts a text: the outputs of the second version differ."""


async def write(run: Path, *, days: int, bad: int) -> None:
    """Fill a folder with ``enriched``, ``dead-letter`` and ``logs``. ``bad``: number of dead letters per day."""
    sound = tuple(chosen(run / "library"))
    payloads = [*sound, *(data for data, _ in broken(bad))]
    random.Random(0).shuffle(payloads)
    for day, (version, max_tokens) in enumerate(list(VERSIONS.items())[:days]):
        rows = predicted(max_tokens, sound)
        for number in range(2):
            shard = Shard("docstrings", 1_700_000_000, f"shardId-00000000000{number}")
            await _write_shard(run, shard, version, list(records(shard, day, payloads[number::2], rows)), day)
    (run / "logs").mkdir()
    (run / "logs" / "worker-0.prom").write_bytes(metrics().exposition())


def chosen(root: Path) -> Iterator[bytes]:
    """Short docstrings of some modules of the standard library, as the demo's records."""
    for module in MODULES:
        link = (root / module).with_suffix(".py")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to((library() / module).with_suffix(".py"))
    for _, group in groupby((each for each in docstrings(root) if len(each.text) < SHORT), lambda each: each.module):
        yield from (json.dumps(each._asdict()).encode() for each in islice(group, FEW))


@functools.cache
def predicted(max_tokens: int, payloads: tuple[bytes, ...]) -> dict[bytes, Mapping[str, Any]]:
    """The model's row for each payload. The tables of a process share them: the model is what takes time."""
    model = MiniLM()
    model.load(LoadContext({"max_tokens": max_tokens}))
    return dict(zip(payloads, model.predict([model.decode(payload) for payload in payloads]), strict=True))


def records(
    shard: Shard, day: int, payloads: Sequence[bytes], rows: Mapping[bytes, Mapping[str, Any]]
) -> Iterator[Record]:
    """Settle the records as workers do."""
    for number, payload in enumerate(payloads):
        sequence = str(FIRST + day * len(payloads) + number)
        record = Record(shard.shard_id, payload, None, sequence, 0, FIRST_DAY_MS + day * DAY_MS + number * 100)
        try:
            item = MiniLM().decode(payload)
            row = {**{name: item[name] for name in PASSED}, **rows[payload]}
            record.outcome = Enriched(pa.RecordBatch.from_pylist([row], COLUMNS), 0)
        except Reject as refusal:
            record.outcome = Dead(payload, refusal.reason, "", 1, "decode")
        yield record


async def _write_shard(run: Path, shard: Shard, version: str, settled: list[Record], day: int) -> None:
    last_s = (settled[-1].arrived_ms + LAG_MS) / 1000
    sink = ParquetSink(
        name="table",
        store=FolderStore(run / "enriched"),
        flush_interval_s=300,
        flush_mib=64,
        schema=TableSchema(COLUMNS, "docstrings", version),
        ledger=Ledger(FolderStore(run / "dead-letter"), FolderStore(run / "dead-letter.staged")),
        events=SinkEvents(),
        now=lambda: datetime.fromtimestamp(last_s, UTC),
    )
    fatal: list[BaseException] = []
    writer = sink.open(shard, lambda end: None, fatal.append)
    await writer.resume(settled[0], Position(int(settled[0].sequence) - 1, LAST_SUB) if day else None)
    writer.write(Run(shard, settled))
    await writer.flush()
    await sink.close()
    assert not fatal


def metrics() -> Metrics:
    """The metrics of a worker that has done some batches."""
    made = Metrics()
    seconds = iter(range(1000))
    made.replica_time.account_for(1, None, lambda: float(next(seconds)))
    made.replica_time.at_work(1, held=False)
    for size in (1, 2, 8, 8, 16, 16, 16):
        made.batches.returned(size, size / 50)
    return made
