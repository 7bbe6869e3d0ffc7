"""A fake model host and a fake sink: they keep the ports' promises, and a test controls when they make progress."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from pipeline.record import Dead, Enriched, Outcome, Position, Record, Run, Shard
from pipeline.sinks import OnDurable


def enriched(record: Record) -> Outcome:
    """Return an outcome without a model: it has no columns and no table."""
    return Enriched(table=None, row=0)


def dead(record: Record) -> Outcome:
    """Return the outcome of a record that the fake model refuses."""
    return Dead(record.data, "refused by the fake", "", 1)


class FakeJudge:
    """A model host without processes. ``verdict`` decides each record's outcome; ``cost`` 0: it measures no costs.

    ``batches`` has the size of each settled batch, ``believed`` the ids of the shards passed to :meth:`believe`.
    """

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
        """Whether it sets costs."""
        return self._cost > 0

    def pause(self) -> None:
        """Hold every batch until :meth:`resume`."""
        self._open.clear()

    def resume(self) -> None:
        """Let the held batches, and later ones, go on."""
        self._open.set()

    async def begun(self, batches: int = 1) -> None:
        """Return once this many batches have begun."""
        while self._count < batches:
            self._begun.clear()
            await self._begun.wait()

    async def measure(self, records: Sequence[Record]) -> None:
        """Set the cost of every record to the configured one."""
        for record in records:
            record.cost = self._cost

    async def recall(self, shard: Shard, first: Record) -> None:
        """Do nothing: there are no notes of crashes."""
        return

    def trust(self, shard: Shard) -> None:
        """Record the shard's id in ``believed``."""
        self.believed.append(shard.shard_id)

    async def settle(self, records: Sequence[Record]) -> None:
        """Wait while paused, then give every record the outcome that ``verdict`` returns."""
        self._count += 1
        self._begun.set()
        await self._open.wait()
        self.batches.append(len(records))
        await asyncio.sleep(0)
        for record in records:
            record.settle(self._verdict(record))


class FakeWriter:
    """Keeps runs in memory. They are durable at once, or, while the sink is stalled, after :meth:`commit`."""

    def __init__(self, sink: FakeSink, shard: Shard, on_durable: OnDurable) -> None:
        self.shard = shard
        self.pending: list[Run] = []
        self.abandoned = False
        self._sink = sink
        self._on_durable = on_durable
        self._idle = asyncio.Event()
        self._idle.set()

    async def resume(self, first: Record, checkpoint: Position | None) -> Position | None:
        """Return the position that the sink's ``held`` has for this shard."""
        return self._sink.held.get(self.shard.shard_id)

    def write(self, run: Run) -> None:
        """Keep the run; commit it unless the sink is stalled."""
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
        """``bytes_per_record`` for each record that is not durable."""
        return sum(len(run.records) for run in self.pending) * self._sink.bytes_per_record

    async def flush(self) -> None:
        """Return once everything is durable; while the sink is stalled, that is after ``recover()``."""
        if not self._sink.stalled:
            self.commit()
        await self._idle.wait()

    def abandon(self) -> None:
        """Drop what is not durable."""
        self.abandoned = True
        self.pending = []


class FakeSink:
    """A sink in memory. ``stall()`` holds everything back until ``recover()``.

    ``held``: by shard id, the position up to which the sink already has the shard. ``writers``: all that were opened.
    """

    wants_payloads = False

    def __init__(self, name: str = "fake", *, bytes_per_record: int = 0) -> None:
        self.name = name
        self.held: dict[str, Position] = {}
        self.rows: dict[str, list[Record]] = {}
        self.writers: list[FakeWriter] = []
        self.stalled = False
        self.bytes_per_record = bytes_per_record

    async def check(self) -> None:
        """Do nothing: the sink always works."""
        return

    def open(self, shard: Shard, on_durable: OnDurable, on_fatal: Callable[[BaseException], None]) -> FakeWriter:
        """Open a writer and add it to ``writers``."""
        writer = FakeWriter(self, shard, on_durable)
        self.writers.append(writer)
        return writer

    def stall(self) -> None:
        """Make nothing durable until :meth:`recover`."""
        self.stalled = True

    def recover(self) -> None:
        """Make everything durable, and later runs at once."""
        self.stalled = False
        for writer in self.writers:
            writer.commit()

    async def close(self) -> None:
        """Do nothing."""
        return
