"""What the host does with a model that does nothing: recorded protocol traffic in, durable rows out, without a JVM.

    python -m benchmarks.host [--json] [RUNS]

Everything is as in a task (the bridges' socket, sessions, batcher, stage, a replica in its process, sinks), except that
one process speaks for all bridges (:mod:`benchmarks.traffic`). In the same runs, `amazon_kclpy`'s own loop reads the
same lines, with a processor that only looks at each record's payload.
"""

from __future__ import annotations

import asyncio
import gc
import io
import sys
import tempfile
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import pyarrow as pa

from benchmarks import composed, traffic
from benchmarks.alone import run
from benchmarks.figures import Figure
from benchmarks.memory_sink import Memory
from benchmarks.recorded_task import BATCH, LINGER_MS, MAX_RECORDS, NOOP, Host, Watched
from consumer.build import Parts
from pipeline.metrics import Metrics
from pipeline.record import Record, Run
from pipeline.sinks import Sink

FLUSH_INTERVAL_S, FLUSH_MIB = 60.0, 8.0
"""So small that files are written during the run, and not only at its end."""


@dataclass(frozen=True, slots=True)
class Load:
    """A recording's shape. ``every_s``: seconds between messages of a shard; 0: as fast as they are answered."""

    shards: int
    messages: int
    records: int
    every_s: float = 0.0


FULL = Load(shards=8, messages=60, records=500)
"""Shards far behind: a read returns hundreds of records of 900 bytes."""

CAUGHT_UP = Load(shards=8, messages=15, records=20, every_s=0.2)
"""Shards without a backlog. KCL reads a shard at most five times a second."""

MANY_SHARDS = Load(shards=64, messages=10, records=250)
SATURATED_BATCH_S = 0.05


def parquet(rows: pa.Schema, folder: Path) -> Sink:
    """Return a sink to a local folder, with its dead letters next to it."""
    often = {"flush_interval_s": FLUSH_INTERVAL_S, "flush_mib": FLUSH_MIB}
    settings = composed.settings(f"{NOOP}:Noop", BATCH, folder=str(folder), table=often)
    [sink] = Parts(settings, composed.outside(), Metrics()).sinks(rows)
    return sink


def kclpy_rate(recording: Path) -> float:
    """Return records per second of `amazon_kclpy`'s loop, reading the first shard's lines."""
    from amazon_kclpy.kcl import KCLProcess
    from amazon_kclpy.v3.processor import RecordProcessorBase

    class Looking(RecordProcessorBase):  # type: ignore[misc]  # it ships no types
        count = 0

        def initialize(self, initialize_input: Any) -> None:
            return

        def process_records(self, process_records_input: Any) -> None:
            for record in process_records_input.records:
                self.count += bool(record.binary_data)

        def lease_lost(self, lease_lost_input: Any) -> None:
            return

        def shard_ended(self, shard_ended_input: Any) -> None:
            return

        def shutdown_requested(self, shutdown_requested_input: Any) -> None:
            return

    gc.collect()
    looking = Looking()
    with min(recording.iterdir()).open() as lines:
        began = time.perf_counter()
        KCLProcess(looking, lines, io.StringIO(), sys.stderr).run()
        return looking.count / (time.perf_counter() - began)


async def throughput(runs: int, load: Load = FULL) -> dict[str, Figure]:
    """Return records per second of a sink in memory, the Parquet sink and `amazon_kclpy`, in turns."""
    memory, files, kclpy = [], [], []
    async with AsyncExitStack() as stack:
        recording = _recording(stack, load)
        host = await _host(stack)
        await host.consume(recording, Memory())
        for _ in range(runs):
            memory.append((await host.consume(recording, Memory())).rate)
            with tempfile.TemporaryDirectory() as folder:
                files.append((await host.consume(recording, parquet(host.rows, Path(folder)))).rate)
            kclpy.append(kclpy_rate(recording))
        shares = [await _transport_share(host, 2 * load.messages) for _ in range(runs)]
    beside = f"{load.shards} shards, messages of {load.records} records of {traffic.DATA_BYTES} bytes"
    return _by_key(
        Figure("host_records_per_s", memory, "records/s", 100_000, text=f"{beside}; a sink in memory"),
        Figure("host_parquet_records_per_s", files, "records/s", 40_000, text=f"{beside}; Parquet on a local folder"),
        Figure("kclpy_records_per_s", kclpy, "records/s", text="KCLProcess's own loop over one shard's lines"),
        Figure("transport_share", shares, text="of a saturated replica's time, with a model that does nothing"),
    )


async def _transport_share(host: Host, batches: int) -> float:
    """The share of a saturated replica's time that is not spent between bytes and rows."""
    data = bytes(traffic.DATA_BYTES)
    todo = iter([[Record("s", data, "key", str(n), 0, 1) for n in range(MAX_RECORDS)] for _ in range(batches)])
    host.model.calls_s.clear()

    async def work(mine: Iterator[list[Record]]) -> None:
        for records in mine:
            await host.model.settle(records)

    began = time.monotonic()
    await asyncio.gather(*(work(todo) for _ in range(host.model.slots)))
    return max(0.0, 1 - sum(host.model.calls_s) / (time.monotonic() - began))


async def latency(runs: int, load: Load = CAUGHT_UP, batch_s: float = 0.0) -> dict[str, Figure]:
    """Return the latency of records that arrive when nothing waits: from admission to settled, without the model's
    time, in ms.
    """
    p50, p99 = [], []
    async with AsyncExitStack() as stack:
        recording = _recording(stack, load)
        host = await _host(stack, "Slow", seconds=batch_s)
        for _ in range(runs):
            settled_s: dict[Record, float] = {}
            took_s = host.model.took_s = {}

            def note(run: Run, settled_s: dict[Record, float] = settled_s) -> None:
                settled_s.update(dict.fromkeys(run.records, time.monotonic()))

            consumed = await host.consume(recording, Memory(note), every_s=load.every_s, stage_of=Watched)
            assert isinstance(consumed.stage, Watched)
            admitted_s = consumed.stage.admitted_s
            added_ms = [1000 * (settled_s[record] - at - took_s[record]) for record, at in admitted_s.items()]
            hundredths = quantiles(added_ms, n=100)
            p50.append(hundredths[49])
            p99.append(hundredths[98])
    text = f"admission to settled less predict, when caught up; batch.linger_ms is {LINGER_MS:g}"
    return _by_key(
        Figure("added_latency_p50_ms", p50, "ms", LINGER_MS + 5, at_most=True, text=text),
        Figure("added_latency_p99_ms", p99, "ms", LINGER_MS + 20, at_most=True, text=text),
    )


async def beat(runs: int, load: Load = MANY_SHARDS, batch_s: float = SATURATED_BATCH_S) -> dict[str, Figure]:
    """Return how late the last status is, with many shards and an overloaded model."""
    latest = []
    async with AsyncExitStack() as stack:
        recording = _recording(stack, load)
        host = await _host(stack, "Slow", seconds=batch_s)
        for _ in range(runs):
            consumed = await host.consume(recording, Memory(), every_s=load.every_s, stage_of=Watched)
            assert isinstance(consumed.stage, Watched)
            latest.append(max(lateness(consumed.beats, consumed.stage.closed_s)))
    waited = "longest wait of a processRecords message for its status while the session may admit records"
    text = f"{waited}; {load.shards} shards, a saturated model"
    return _by_key(Figure("beat_late_s", latest, "s", 1.0, at_most=True, text=text))


def lateness(beats: dict[str, list[traffic.Beat]], closed_s: dict[str, list[float]]) -> Iterator[float]:
    """Yield the delay of each status, in seconds: since its message, or since the session last found its window
    closed.
    """
    for shard_id, said in beats.items():
        closed = closed_s.get(shard_id, [])
        for said_s, answered_s in said:
            last = bisect_right(closed, answered_s)
            yield answered_s - max(said_s, closed[last - 1] if last > bisect_left(closed, said_s) else said_s)


def _recording(stack: AsyncExitStack, load: Load) -> Path:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    traffic.record(folder, shards=load.shards, messages=load.messages, records=load.records)
    return folder


async def _host(stack: AsyncExitStack, model: str = "Noop", **options: Any) -> Host:
    host = Host(model, **options)
    stack.push_async_callback(host.model.stop)
    await host.start()
    return host


def _by_key(*figures: Figure) -> dict[str, Figure]:
    return {figure.key: figure for figure in figures}


async def everything(runs: int) -> dict[str, Figure]:
    """Return all figures."""
    return {**await throughput(runs), **await latency(runs), **await beat(min(runs, 3))}


def measure(runs: int = 5) -> dict[str, Figure]:
    """As :func:`everything`, synchronously."""
    return asyncio.run(everything(runs))


if __name__ == "__main__":
    run(measure)
