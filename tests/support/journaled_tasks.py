"""Tasks that read the same records one after the other, and die of some, with the real crash journal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from pipeline.events import ModelEvent
from pipeline.outages import Outages
from pipeline.record import Dead, Enriched, Record, Shard
from pipeline.replicas.bisection import Bisection
from pipeline.replicas.crash_journal import CrashJournal
from pipeline.replicas.journaled_host import JournaledHost
from pipeline.stores.calls import SureCalls
from pipeline.stores.memory import MemoryStore
from tests.support.settled_records import MORNING_MS, Inline

SHARD = Shard("events", 1_700_000_000, "shardId-000000000000")
OTHER = Shard("events", 1_700_000_000, "shardId-000000000001")
DAY_MS = 24 * 60 * 60 * 1000
TASKS = 16


class TaskDied(BaseException):
    """The whole task is dead: nothing runs after this, as after a SIGKILL."""


class Model:
    """Kills the task for some records, and its replica for others."""

    slots = 1
    measures = False
    safe_cost = 0

    def __init__(self, deadly: set[str], notes: CrashJournal, killers: frozenset[str] = frozenset()) -> None:
        self.deadly = deadly
        self.killers = killers
        self.notes = notes
        self.tried: list[list[str]] = []

    async def measure(self, records: Sequence[Record]) -> None:
        return

    async def settle(self, records: Sequence[Record]) -> None:
        """A short version of the host: a batch that kills its replica is noted, then tried one by one."""
        bisection, opened = Bisection(records, 1), []
        while tried := bisection.next():
            self.tried.append([record.sequence for record in tried])
            if any(record.sequence in self.deadly for record in tried):
                raise TaskDied
            if any(record.sequence in self.killers for record in tried):
                if len(tried) > 1:
                    opened.append(await self.notes.begin(tried))
                if (attempts := bisection.died()) is not None:
                    tried[0].outcome = Dead(b"", "replica killed by signal 11", "", attempts, "died")
                continue
            bisection.passed()
            for record in tried:
                record.outcome = Enriched(table=None, row=0)
        for note in opened:
            await note.end()


def record(sequence: int, shard: Shard = SHARD, ms: int = MORNING_MS) -> Record:
    return Record(shard.shard_id, b"payload", "key", str(sequence), 0, ms)


class Life:
    """A stream's records, read by one task after the other until all are settled."""

    def __init__(self, records: list[Record], deadly: set[str], **given: frozenset[str]) -> None:
        self.records = records
        self.deadly = deadly
        self.given = given
        self.store = MemoryStore()
        self.died = 0
        self.events: list[ModelEvent] = []
        self.last: Model | None = None
        self.model = Model

    def notes(self) -> CrashJournal:
        async def switches(shard_id: str) -> int:
            return self.died

        quick = SureCalls(Inline(), Outages().part("suspects"), sleep=lambda s: asyncio.sleep(0))
        today = datetime.fromtimestamp(max(r.arrived_ms for r in self.records) / 1000, UTC).date()
        return CrashJournal(self.store, quick, switches=switches, today=lambda: today)

    async def task(self, batch: int) -> None:
        """Read everything again, because nothing was checkpointed; die of it or settle all of it."""
        notes = self.notes()
        model = self.last = self.model(self.deadly, notes, **self.given)
        judge = JournaledHost(model, notes, retries=1, on_event=self.events.append)
        for shard in (SHARD, OTHER):
            if own := [r for r in self.records if r.shard_id == shard.shard_id]:
                await judge.recall(shard, own[0])
        for start in range(0, len(self.records), batch):
            await judge.settle(self.records[start : start + batch])

    def run(self, batch: int = 8) -> None:
        for _ in range(TASKS):
            for each in self.records:
                each.outcome = None
            try:
                asyncio.run(self.task(batch))
            except TaskDied:
                self.died += 1
            else:
                return
        raise AssertionError(f"{self.died} tasks died and the records still kill")

    def dead(self) -> set[str]:
        return {each.sequence for each in self.records if isinstance(each.outcome, Dead)}


async def soon(seconds: float) -> None:
    await asyncio.sleep(0)


async def none(shard_id: str) -> int:
    return 0
