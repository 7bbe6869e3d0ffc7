"""A model host and a sink as fakes: they keep the promises of the ports, and obey a hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from pipeline.record import Dead, Enriched, Outcome, Position, Record, Run, Shard
from pipeline.sinks import OnDurable


def enriched(record: Record) -> Outcome:
    """An outcome that needs no model: no columns, so no table either."""
    return Enriched(table=None, row=0)


def dead(record: Record) -> Outcome:
    return Dead(record.data, "refused by the fake", "", 1)


class FakeJudge:
    """A model host without processes. ``pause()`` holds every batch until ``resume()``."""

    def __init__(self, verdict: Callable[[Record], Outcome] = enriched, *, slots: int = 1, cost: int = 0) -> None:
        self.slots = slots
        self.batches: list[int] = []
        self.believed: list[str] = []
        self.safe_cost = 0
        self._verdict = verdict
        self._cost = cost
        self._open = asyncio.Event()
        self._open.set()
        self._begun = asyncio.Event()
        self._count = 0

    @property
    def measures(self) -> bool:
        return self._cost > 0

    def pause(self) -> None:
        self._open.clear()

    def resume(self) -> None:
        self._open.set()

    async def begun(self, batches: int = 1) -> None:
        """Return once so many batches have begun."""
        while self._count < batches:
            self._begun.clear()
            await self._begun.wait()

    async def measure(self, records: Sequence[Record]) -> None:
        for record in records:
            record.cost = self._cost

    async def recall(self, shard: Shard, first: Record) -> None:
        return

    def believe(self, shard: Shard) -> None:
        self.believed.append(shard.shard_id)

    async def settle(self, records: Sequence[Record]) -> None:
        self._count += 1
        self._begun.set()
        await self._open.wait()
        self.batches.append(len(records))
        await asyncio.sleep(0)
        for record in records:
            record.settle(self._verdict(record))


class FakeWriter:
    """Keeps runs in memory; durable at once, or when told."""

    def __init__(self, sink: FakeSink, shard: Shard, on_durable: OnDurable) -> None:
        self.shard = shard
        self.pending: list[Run] = []
        self.abandoned = False
        self._sink = sink
        self._on_durable = on_durable
        self._idle = asyncio.Event()
        self._idle.set()

    async def resume(self, first: Record, checkpoint: Position | None) -> Position | None:
        return self._sink.held.get(self.shard.shard_id)

    def write(self, run: Run) -> None:
        self.pending.append(run)
        self._idle.clear()
        if not self._sink.stalled:
            self.commit()

    def commit(self) -> None:
        """Make everything written durable."""
        if self.abandoned:
            return
        runs, self.pending = self.pending, []
        self._idle.set()
        for run in runs:
            self._sink.rows.setdefault(self.shard.shard_id, []).extend(run.records)
            self._on_durable(run.end)

    @property
    def backlog_bytes(self) -> int:
        return sum(len(run.records) for run in self.pending) * self._sink.bytes_per_record

    async def flush(self) -> None:
        if not self._sink.stalled:
            self.commit()
        await self._idle.wait()

    def abandon(self) -> None:
        self.abandoned = True
        self.pending = []


class FakeSink:
    """A sink in memory. ``stall()`` holds everything back until ``recover()``; ``held`` is what it owns at start."""

    wants_payloads = False

    def __init__(self, name: str = "fake", *, bytes_per_record: int = 0) -> None:
        self.name = name
        self.held: dict[str, Position] = {}
        self.rows: dict[str, list[Record]] = {}
        self.writers: list[FakeWriter] = []
        self.stalled = False
        self.bytes_per_record = bytes_per_record

    async def check(self) -> None:
        return

    def open(self, shard: Shard, on_durable: OnDurable, on_fatal: Callable[[BaseException], None]) -> FakeWriter:
        writer = FakeWriter(self, shard, on_durable)
        self.writers.append(writer)
        return writer

    def stall(self) -> None:
        self.stalled = True

    def recover(self) -> None:
        self.stalled = False
        for writer in self.writers:
            writer.commit()

    async def close(self) -> None:
        return
