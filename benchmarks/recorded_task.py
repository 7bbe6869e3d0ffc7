"""A task that processes a recording of KCL's protocol, and notes when it admitted, predicted and settled what."""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from benchmarks import composed, traffic
from consumer.build import Parts
from consumer.kcl.bridge_server import BridgeServer, Decoder
from consumer.kcl.session import ShardSession
from pipeline.flow.lane import Lane
from pipeline.metrics import Metrics
from pipeline.record import Record, Shard
from pipeline.replicas.answers import Rows
from pipeline.replicas.host import HostSettings, ModelHost
from pipeline.sinks import Sink
from pipeline.stage import Stage

MAX_RECORDS, LINGER_MS = 1024, 20.0
BATCH = {"max_records": MAX_RECORDS, "linger_ms": LINGER_MS, "adaptive": False}
"""The size of a batch is not what is measured here."""

NOOP = "benchmarks.noop"
DEADLINE_S = 120.0


class Watched(Stage):
    """Notes when records were admitted and settled, and when a session found its window closed."""

    def __init__(self, *parts: Any, **more: Any) -> None:
        super().__init__(*parts, **more)
        self.admitted_s: dict[Record, float] = {}
        self.closed_s: dict[str, list[float]] = {}

    def admit(self, lane: Lane, records: Sequence[Record]) -> None:
        """Note the time, and admit."""
        self.admitted_s.update(dict.fromkeys(records, time.monotonic()))
        super().admit(lane, records)

    def has_room(self, lane: Lane) -> bool:
        """Note the time if there is no room."""
        room = super().has_room(lane)
        if not room:
            self.closed_s.setdefault(lane.shard.shard_id, []).append(time.monotonic())
        return room


class Timed(ModelHost):
    """Notes the duration of each call, and of the call in which each record was predicted."""

    def __init__(self, settings: HostSettings, **more: Any) -> None:
        super().__init__(settings, **more)
        self.calls_s: list[float] = []
        self.took_s: dict[Record, float] | None = None

    def _enrich(self, answer: Rows, tried: Sequence[Record]) -> None:
        super()._enrich(answer, tried)
        self.calls_s.append(answer.seconds)
        if self.took_s is not None:
            self.took_s.update(dict.fromkeys(tried, answer.seconds))


@dataclass(slots=True)
class Consumed:
    """One recording's way through a task.

    ``seconds``: from the first shard's beginning to the last one's end, when ``records`` are durable and checkpointed.
    ``beats``: see :mod:`benchmarks.traffic`.
    """

    records: int
    seconds: float
    beats: dict[str, list[traffic.Beat]]
    stage: Stage

    @property
    def rate(self) -> float:
        """Records per second."""
        return self.records / self.seconds


class Host:
    """A model host for any number of tasks, one after the other."""

    def __init__(self, model: str = "Noop", **options: Any) -> None:
        self._settings = composed.settings(f"{NOOP}:{model}", BATCH, options=options)
        made = self._parts().host(None, kind=Timed)
        assert isinstance(made, Timed)
        self.model = made

    async def start(self) -> None:
        """Start the model."""
        self._spec = await self.model.start()

    @property
    def rows(self) -> pa.Schema:
        """What the model returns for an item."""
        return self._spec.row_schema

    def _parts(self) -> Parts:
        return Parts(self._settings, composed.outside(), Metrics())

    async def consume(
        self, recording: Path, sink: Sink, *, every_s: float = 0.0, stage_of: type[Stage] = Stage
    ) -> Consumed:
        """Process the recording to the end of every shard."""
        gc.collect()
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            parts, decoder = self._parts(), Decoder()
            metrics = parts.metrics
            stack.callback(decoder.close)
            stage = parts.stage(self.model, parts.notes(composed.no_switches), self._spec, [sink], kind=stage_of)
            begun_s: list[float] = []
            leaving = asyncio.Event()

            def shard(shard_id: str) -> Shard:
                begun_s.append(time.monotonic())
                return Shard("bench", 0, shard_id)

            bridges = BridgeServer(lambda wire: ShardSession(wire, stage, shard, leaving, metrics.records, decoder))
            await bridges.listen(folder / "host.sock")
            stack.push_async_callback(bridges.close)
            running = asyncio.create_task(stage.run())
            stack.push_async_callback(_ended, running)
            speaking = asyncio.create_task(_speak(folder / "host.sock", recording, every_s))
            stack.push_async_callback(_ended, speaking)
            async with asyncio.timeout(DEADLINE_S):
                ends: set[asyncio.Future[Any]] = {speaking, running, bridges.failure}
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if bridges.failure.done():
                raise bridges.failure.result()
            if running.done():
                await running
            beats, ended_s = speaking.result()
            await sink.close()
        return Consumed(metrics.snapshot()["checkpointed"], ended_s - min(begun_s), beats, stage)


async def _ended(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _speak(socket_path: Path, recording: Path, every_s: float) -> tuple[dict[str, list[traffic.Beat]], float]:
    """Run the process that plays the recording. Return what it sent when, and when all had ended."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.traffic", str(socket_path), str(recording), str(every_s),
        cwd=composed.ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise RuntimeError(f"benchmarks.traffic ended with {process.returncode}")
    report = orjson.loads(said)
    return report["beats"], report["ended_s"]
