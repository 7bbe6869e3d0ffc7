"""What learned batches of similar lengths gain over plain FIFO, with the same model, texts and maximum batch.

Real model hosts and stages, without KCL: every docstring is admitted at once, on eight shards, and drained.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from benchmarks.figures import Figure
from examples.demo.corpus import records as docstrings
from pipeline.batching.batch_size import BatchSizeController
from pipeline.batching.batcher import Batcher
from pipeline.events import ModelEvent, Predicted
from pipeline.flow.bounds import Bounds
from pipeline.machine.cores import available
from pipeline.metrics import Metrics
from pipeline.record import Record, Shard
from pipeline.replicas.host import ModelHost
from pipeline.stage import Stage
from pipeline.testing import FakeSink
from pipeline.testing.model_settings import host_settings

RECORDS = 512
SHARDS = 8
MAX_RECORDS = 64
UNBOUNDED = Bounds(1_000_000, 1 << 40)


class Trusting(ModelHost):
    """A host without notes of crashes: a benchmark has no next task."""

    async def recall(self, shard: Shard, first: Record) -> None:
        """Do nothing."""
        return

    def trust(self, shard: Shard) -> None:
        """Do nothing."""
        return


class Line:
    """One way of batching: a model host with one replica, and its batcher."""

    def __init__(self, factory: str, *, learns: bool, options: Mapping[str, Any] | None = None) -> None:
        self._learns = learns
        self.cost = self.padded = 0
        self.batch_sizes: BatchSizeController | None = None
        settings = host_settings(factory, "bench", replicas=1, threads=available(), options=options or {})
        self.host = Trusting(settings, on_event=self._note)
        self._sequence = 0

    async def start(self) -> None:
        """Start the model."""
        self._spec = await self.host.start()
        self.forget()

    def forget(self) -> None:
        """Drop what was learned, as at a start."""
        if self._learns:
            spec = self._spec
            self.batch_sizes = BatchSizeController(
                max_records=MAX_RECORDS, max_cost=0, measures=spec.measures, example_s=spec.example_s
            )

    async def rate(self, texts: Sequence[tuple[bytes, str]]) -> float:
        """Process the texts and return records per second."""
        self.cost = self.padded = 0
        pads = self._spec.pads and self._spec.measures
        batcher = Batcher(max_records=MAX_RECORDS, max_cost=0, linger_s=0.02, bucket_records=512 if pads else 0)
        stage = Stage(self.host, batcher, [FakeSink("memory")], UNBOUNDED, Metrics(), batch_sizes=self.batch_sizes)
        running = asyncio.create_task(stage.run())
        lanes = [stage.open(Shard("bench", 0, f"shardId-{number:012}"), None) for number in range(SHARDS)]
        began = time.perf_counter()
        for number, lane in enumerate(lanes):
            mine = texts[number::SHARDS]
            stage.admit(lane, [self._record(lane.shard.shard_id, *each) for each in mine])
        try:
            await asyncio.gather(*map(stage.drain, lanes))
            return len(texts) / (time.perf_counter() - began)
        finally:
            for lane in lanes:
                stage.abandon(lane)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def _record(self, shard_id: str, data: bytes, key: str) -> Record:
        self._sequence += 1
        return Record(shard_id, data, key, str(self._sequence), 0, 0)

    def _note(self, event: ModelEvent) -> None:
        if not isinstance(event, Predicted):
            return
        self.cost += event.cost
        self.padded += event.padded
        if self.batch_sizes is not None:
            self.batch_sizes.learn(event)


async def compare(runs: int, count: int) -> dict[str, Figure]:
    """Return the ratio of the two rates, and the learned batches' padding."""
    texts = docstrings(count * (runs + 2), seed=4)
    async with AsyncExitStack() as stack:
        fifo, learned = (
            Line("benchmarks.padded:Padded", learns=False),
            Line("benchmarks.padded:Measured", learns=True),
        )
        for line in (fifo, learned):
            stack.push_async_callback(line.host.stop)
            await line.start()
        for _ in range(2):
            await learned.rate(texts[:count])
        await fifo.rate(texts[: count // 4])
        ratios, padding = [], []
        for run in range(2, runs + 2):
            part = texts[run * count : (run + 1) * count]
            plain = await fifo.rate(part)
            ratios.append(await learned.rate(part) / plain)
            padding.append(learned.padded / learned.cost)
    assert learned.batch_sizes is not None
    compared = "learned batches of similar lengths ÷ batches of 64 in order of arrival"
    usual = f"batches of up to {learned.batch_sizes.usual} tokens were found to be quickest"
    return {
        "vs_fifo": Figure("vs_fifo", ratios, "x", bar=1.5, text=f"{compared}; {usual}"),
        "padding_ratio": Figure("padding_ratio", padding, "x", bar=1.15, at_most=True, text="tokens, padding included"),
    }


def measure(runs: int = 5, count: int = RECORDS) -> dict[str, Figure]:
    """As :func:`compare`, synchronously."""
    return asyncio.run(compare(runs, count))
