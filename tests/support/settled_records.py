"""Settled records of an invented shard, for tests of sinks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from pipeline.record import Dead, Enriched, Position, Record, Run, Shard
from pipeline.table.schema import TableSchema

ROWS = pa.schema([("text", pa.string()), ("score", pa.float32()), ("vector", pa.list_(pa.float32()))])
SHARD = Shard("events", 1_700_000_000, "shardId-000000000000")
SCHEMA = TableSchema(ROWS, "events", "model@1")
DAY_MS = 24 * 60 * 60 * 1000
MORNING_MS = 1_795_000_000_000 // DAY_MS * DAY_MS


def record(
    sequence: int, *, sub: int = 0, ms: int = MORNING_MS, whole: bool = True, dead: bool = False, shard: Shard = SHARD
) -> Record:
    """A settled record: a row with its number, or a dead letter."""
    made = Record(shard.shard_id, b"", f"key-{sequence}", str(sequence), sub, ms, whole)
    if dead:
        made.outcome = Dead(f"payload {sequence}/{sub}".encode(), "refused", "Traceback", 2)
    else:
        made.outcome = Enriched(rows([sequence]), 0)
    return made


def rows(numbers: Sequence[int]) -> pa.RecordBatch:
    columns = [
        [str(number) for number in numbers],
        [number % 97 / 2 for number in numbers],
        [[number % 97] for number in numbers],
    ]
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, ROWS, strict=True)], schema=ROWS
    )


def run(*records: Record, shard: Shard = SHARD) -> Run:
    return Run(shard, list(records))


def runs(start: int, stop: int, **given: Any) -> Run:
    return run(*(record(sequence, **given) for sequence in range(start, stop)))


class Inline:
    """Runs calls at once instead of in threads."""

    async def __call__(self, work: Callable[[], Any]) -> Any:
        await asyncio.sleep(0)
        return work()

    def close(self) -> None:
        return


class Told:
    """The reports of a writer."""

    def __init__(self) -> None:
        self.durable: list[Position] = []
        self.fatal: list[BaseException] = []

    @property
    def end(self) -> int | None:
        return self.durable[-1].sequence if self.durable else None


class Clock:
    """A clock that a test moves. Sleeping tasks wake in order when it has passed their time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        woken = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, woken))
        await woken

    async def pass_(self, seconds: float) -> None:
        """Move the clock, and let every task run that is due."""
        end = self.now + seconds
        await settle()
        while due := [sleeper for sleeper in self._sleepers if sleeper[0] <= end and not sleeper[1].done()]:
            first = min(due, key=lambda sleeper: sleeper[0])
            self.now = max(self.now, first[0])
            self._sleepers.remove(first)
            first[1].set_result(None)
            await settle()
        self.now = end


async def settle() -> None:
    """Return when nothing can continue without a move of the clock."""
    for _ in range(50):
        await asyncio.sleep(0)
