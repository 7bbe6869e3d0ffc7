"""A careful reading of a shard on fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from consumer.leases.leases import Lease
from consumer.poison.doubt import Death, Doubt
from consumer.poison.held_leases import Held
from consumer.poison.notes import HOLDER, Noted
from consumer.poison.reader import Page, PoisonReader
from consumer.testing import aggregate
from pipeline import background
from pipeline.batching.batcher import Batcher
from pipeline.flow.bounds import Bounds
from pipeline.flow.misplaced import Misplaced
from pipeline.hash_keys import HashRange, hash_of
from pipeline.metrics import Metrics
from pipeline.record import Dead, Position, Record, Shard
from pipeline.stage import Stage
from pipeline.testing.fake_ports import FakeJudge, FakeSink

SHARD = Shard("events", 1, "shardId-000000000000")
DEATHS = (Death("a", "x"), Death("b", "y"))


class FakeNotes:
    """A lease that is held until ``lost``. ``refuse`` may raise before each step."""

    def __init__(self) -> None:
        self.lost = False
        self.refuse: Callable[[Doubt], None] = lambda doubt: None
        self.deaf = 0
        self.on_step: Callable[[], None] = lambda: None
        self.checkpoints: list[Position] = []
        self.tried: list[tuple[Position, Position]] = []
        self.freed: list[Doubt] = []

    def hold(self, noted: Noted, holder: str, doubt: Doubt) -> bool:
        return not self.lost

    def step(self, shard_id: str, holder: str, doubt: Doubt, checkpoint: Position | None = None) -> bool:
        self.refuse(doubt)
        self.on_step()
        if doubt.first is not None and doubt.last is not None:
            self.tried.append((doubt.first, doubt.last))
        self.checkpoints += [checkpoint] if checkpoint else []
        return not self.lost

    def keep(self, shard_id: str, holder: str) -> bool:
        return not self.lost

    def free(self, shard_id: str, holder: str, doubt: Doubt) -> bool:
        self.deaf -= 1
        if self.deaf >= 0:
            raise OSError("no route to the lease table")
        self.freed.append(doubt)
        return True


class FakePages:
    def __init__(self, records: Callable[[], Sequence[Record]]) -> None:
        self._records = records

    def after(self, shard_id: str, position: Position | None) -> Page:
        after = position.sequence if position else 0
        return Page([record for record in self._records() if int(record.sequence) > after], True)


class Rig:
    def __init__(self, records: Callable[[], Sequence[Record]], doubt: Doubt, checkpoint: Position | None) -> None:
        self.judge, self.sink, self.notes = FakeJudge(), FakeSink(), FakeNotes()
        self.noted = Noted(Lease(SHARD.shard_id, "", 1, checkpoint, "", (), (), ""), "")
        self.doubt = doubt
        self.records = records
        self.metrics = Metrics()
        self.seconds = 0.0
        self.slow_s = 0.0
        """Seconds that each look at the clock takes, and so each piece."""
        self.notes.on_step = self.wait
        self.step_s = 0.0

    async def within(self, shard_id: str) -> HashRange | None:
        return HashRange(0, hash_of("key") - 1)

    def careful(self, stage: Stage) -> PoisonReader:
        return PoisonReader(
            stage,
            self.notes,
            FakePages(self.records),
            lambda shard_id: SHARD,
            "me",
            give_up_after=5,
            reads_ahead=1000,
            on_event=lambda event: None,
            call=self.call,
            clock=self.clock,
            sleep=self.sleep,
        )

    def clock(self) -> float:
        self.seconds += self.slow_s
        return self.seconds

    def wait(self) -> None:
        self.seconds += self.step_s

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    async def call(self, work: Callable[[], Any]) -> Any:
        await asyncio.sleep(0)
        return work()

    async def read(self, failing: background.Work | None = None) -> None:
        batcher = Batcher(max_records=1000, max_cost=0, linger_s=0.0)
        misplaced = Misplaced(self.metrics.records, self.within)
        stage = Stage(self.judge, batcher, [self.sink], Bounds(10_000, 1 << 30), self.metrics, misplaced=misplaced)
        running = asyncio.ensure_future(stage.run())
        held = Held(SHARD.shard_id, self.noted.lease.checkpoint, self.doubt.begun(f"{HOLDER}me"))
        try:
            await self.careful(stage).read(held, failing or asyncio.Event().wait)
        finally:
            running.cancel()

    @property
    def rows(self) -> list[str]:
        return [str(record.position) for record in self.sink.rows.get(SHARD.shard_id, ())]

    @property
    def letters(self) -> list[Record]:
        return [record for record in self.sink.rows.get(SHARD.shard_id, ()) if isinstance(record.outcome, Dead)]


def plain(count: int) -> list[Record]:
    return [Record(SHARD.shard_id, b"{}", "key", str(100 + n), 0, 1) for n in range(count)]


def aggregates() -> list[Record]:
    data = aggregate([b"{}"] * 200)
    return [Record(SHARD.shard_id, data, None, str(number), 0, 1) for number in (100, 101)]
