"""A table and its dead letters in memory, and workers that write the chain of a shard."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
import pandas as pd

from pipeline.outages import Outages
from pipeline.record import Position, Record
from pipeline.sinks.chain import Chain
from pipeline.sinks.chain_writer import ChainWriter
from pipeline.sinks.parquet import Files
from pipeline.stores.memory import MemoryStore
from pipeline.table.names import Names
from pipeline.table.staged_letters import Ledger
from tests.support.settled_records import (
    SCHEMA,
    SHARD,
    Clock,
    Inline,
    Told,
)

Work = Callable[["World"], Coroutine[Any, Any, None]]


class World:
    """A table and its dead letters, and any number of workers that believe that they own the shard."""

    def __init__(self) -> None:
        self.table = MemoryStore()
        self.dead = MemoryStore()
        self.staged = MemoryStore()
        self.clock = Clock()
        self.outages = Outages(self.clock)
        self.retries = 0
        self.told: list[Told] = []

    def worker(self, *, flush_bytes: int = 1 << 30) -> tuple[ChainWriter, Told]:
        told = Told()
        self.told.append(told)
        names = Names(SHARD)
        writer = ChainWriter(
            Chain(names, flush_interval_s=300, flush_bytes=flush_bytes),
            Files(self.table, names, SCHEMA, Ledger(self.dead, self.staged)),
            told.durable.append,
            told.fatal.append,
            call=Inline(),
            part=self.outages.part("table", give_up_after_s=3600),
            on_retry=self.retried,
            clock=self.clock,
            sleep=self.clock.sleep,
        )
        return writer, told

    def retried(self) -> None:
        self.retries += 1

    def rows(self) -> list[int]:
        """The rows that a plain reader sees, in the order of the files' names within each day."""
        frames = [pd.read_parquet(io.BytesIO(self.table.objects[key][0])) for key in sorted(self.table.objects)]
        return [int(number) for frame in frames for number in frame.sequence_number]

    def letters(self) -> list[int]:
        bodies = [self.dead.objects[key][0] for key in sorted(self.dead.objects)]
        return [int(orjson.loads(line)["sequence_number"]) for body in bodies for line in body.splitlines()]

    def links(self) -> list[tuple[str, str]]:
        found = [self.table.objects[key][1] for key in sorted(self.table.objects)]
        return [(metadata["penstock-previous-end"], metadata["penstock-end"]) for metadata in found]


def play(work: Work) -> World:
    world = World()
    asyncio.run(_guarded(work(world)))
    return world


async def _guarded(work: Coroutine[Any, Any, None]) -> None:
    async with asyncio.timeout(20):
        await work


def failing(error: Exception, *, times: int, operation: str = "put") -> Callable[[str, str], None]:
    left = [times]

    def fault(called: str, key: str) -> None:
        if called == operation and left[0]:
            left[0] -= 1
            raise error

    return fault


async def resumed(writer: ChainWriter, first: Record, checkpoint: int | None = None) -> int | None:
    held = await writer.resume(first, None if checkpoint is None else Position(checkpoint, 0))
    return None if held is None else held.sequence
