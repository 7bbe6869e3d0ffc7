"""What learned batches of similar lengths gain over plain FIFO, with the same model, texts and maximum batch.

The parts of a task without KCL and AWS: every docstring is admitted at once, on eight shards, which then end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from benchmarks import composed
from benchmarks.figures import Figure
from consumer.build import Parts
from examples.demo.corpus import records as docstrings
from pipeline.batching.batch_size import BatchSizeController
from pipeline.flow.lane import Lane
from pipeline.machine.cores import available
from pipeline.metrics import Metrics
from pipeline.record import Enriched, Record, Shard
from pipeline.testing import FakeSink

RECORDS = 512
SHARDS = 8
MAX_RECORDS = 64
LINGER_MS = 20.0
COST, PADDED_COST = "penstock_predicted_cost_total", "penstock_predicted_padded_cost_total"


class Line:
    """One way of batching: a model host with one replica, and the stage of a task that goes on from one run to the
    next. ``costs``: of the last run's items, without and with padding.
    """

    def __init__(self, factory: str, *, learns: bool, options: Mapping[str, Any] | None = None) -> None:
        batch = {"max_records": MAX_RECORDS, "linger_ms": LINGER_MS, "adaptive": learns}
        settings = composed.settings(factory, batch, threads=available(), options=options)
        self._parts = Parts(settings, composed.outside(), Metrics())
        self.host = self._parts.host(None)
        self.costs = (0.0, 0.0)
        self._sequence = 0
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the model."""
        self._spec = await self.host.start()
        await self.forget()

    async def stop(self) -> None:
        """End the stage and the model."""
        await self._end_stage()
        await self.host.stop()

    async def forget(self) -> None:
        """Drop what was learned, as at a start."""
        await self._end_stage()
        notes = self._parts.notes(composed.no_switches)
        self._stage = self._parts.stage(self.host, notes, self._spec, [FakeSink("memory")])
        self._running = asyncio.create_task(self._stage.run())

    @property
    def batch_sizes(self) -> BatchSizeController | None:
        """What was learned; None if nothing is."""
        return self._parts.batch_sizes

    async def rate(self, texts: Sequence[tuple[bytes, str]]) -> float:
        """Process the texts and return records per second."""
        before, began = self._counted(), time.perf_counter()
        lanes = [self._stage.open(self._shard(number), None) for number in range(SHARDS)]
        try:
            shares = [self._admit(lane, texts[number::SHARDS]) for number, lane in enumerate(lanes)]
            await asyncio.gather(*map(self._stage.end, lanes))
            seconds = time.perf_counter() - began
        finally:
            for lane in lanes:
                self._stage.abandon(lane)
        assert all(isinstance(record.outcome, Enriched) for share in shares for record in share), (
            "a run ended before its records"
        )
        cost, padded = (after - earlier for after, earlier in zip(self._counted(), before, strict=True))
        self.costs = cost, padded
        return len(texts) / seconds

    async def _end_stage(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def _shard(self, number: int) -> Shard:
        return Shard("bench", 0, f"shardId-{number:012}")

    def _admit(self, lane: Lane, texts: Sequence[tuple[bytes, str]]) -> list[Record]:
        records = [self._record(lane.shard.shard_id, *each) for each in texts]
        self._stage.admit(lane, records)
        return records

    def _record(self, shard_id: str, data: bytes, key: str) -> Record:
        self._sequence += 1
        return Record(shard_id, data, key, str(self._sequence), 0, 0)

    def _counted(self) -> tuple[float, float]:
        """The cost of all items that were predicted, without and with padding."""
        value = self._parts.metrics.registry.get_sample_value
        return value(COST) or 0.0, value(PADDED_COST) or 0.0


async def compare(runs: int, count: int) -> dict[str, Figure]:
    """Return the ratio of the two rates, and the learned batches' padding."""
    texts = docstrings(count * (runs + 2), seed=4)
    async with AsyncExitStack() as stack:
        fifo, learned = (
            Line("benchmarks.padded:Padded", learns=False),
            Line("benchmarks.padded:Measured", learns=True),
        )
        for line in (fifo, learned):
            stack.push_async_callback(line.stop)
            await line.start()
        for _ in range(2):
            await learned.rate(texts[:count])
        await fifo.rate(texts[: count // 4])
        ratios, padding = [], []
        for run in range(2, runs + 2):
            part = texts[run * count : (run + 1) * count]
            plain = await fifo.rate(part)
            ratios.append(await learned.rate(part) / plain)
            cost, padded = learned.costs
            padding.append(padded / cost)
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
