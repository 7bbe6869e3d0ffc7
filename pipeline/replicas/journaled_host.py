"""A model host whose dangerous tries are noted: see :mod:`pipeline.replicas.crash_journal`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from pipeline.errors import PenstockError, counted
from pipeline.events import DeadLettered, ModelEvent
from pipeline.judge import Settler
from pipeline.record import Dead, Record, Shard
from pipeline.replicas.crash_journal import CrashJournal

LEAST_ATTEMPTS = 3
"""How many tasks must have died while a record was alone in the model: some may have died of something else."""


class JournaledHost:
    """Notes tries that may kill the task, and lets ``inner`` make them. ``retries`` as in ``[model]``."""

    def __init__(
        self, inner: Settler, notes: CrashJournal, *, retries: int, on_event: Callable[[ModelEvent], None]
    ) -> None:
        self._inner = inner
        self._notes = notes
        self._least = max(LEAST_ATTEMPTS, retries + 1)
        self._on_event = on_event
        self._model = _Room()

    @property
    def slots(self) -> int:
        """As :attr:`Settler.slots`."""
        return self._inner.slots

    @property
    def measures(self) -> bool:
        """As :attr:`Settler.measures`."""
        return self._inner.measures

    @property
    def safe_cost(self) -> int:
        """As :attr:`Settler.safe_cost`."""
        return self._inner.safe_cost

    async def measure(self, records: Sequence[Record]) -> None:
        """Measure all records, suspects included: the process that measures has no weights, so it does not kill the
        task.
        """
        await self._inner.measure(records)

    async def recall(self, shard: Shard, first: Record) -> None:
        """As :meth:`CrashJournal.recall`."""
        await self._notes.recall(shard, first)

    def trust(self, shard: Shard) -> None:
        """As :meth:`CrashJournal.trust`."""
        self._notes.trust(shard.shard_id)

    async def settle(self, records: Sequence[Record]) -> None:
        """Set ``outcome`` of every record. Suspects are tried one by one, alone in the model, or become dead
        letters.
        """
        of_each_shard = {record.shard_id: record for record in records}.values()
        suspects = self._notes.suspects(records)
        if not suspects and not any(map(self._notes.in_doubt, of_each_shard)):
            async with self._model.shared():
                await self._inner.settle(records)
            return
        others = [record for record in records if self._notes.deaths(record) is None]
        if others:
            await self._noted(others)
        for suspect in suspects:
            await self._alone(suspect)

    async def _noted(self, records: Sequence[Record]) -> None:
        async with self._model.alone() if len(records) == 1 else self._model.shared():
            await self._try(records)

    async def _try(self, records: Sequence[Record]) -> None:
        """Note the try and make it. If the task gives up (lost device, missing weights), the note is ended: the records
        are not the cause."""
        note = await self._notes.begin(records)
        try:
            await self._inner.settle(records)
        except PenstockError:
            await note.end()
            raise
        await note.end()

    async def _alone(self, suspect: Record) -> None:
        deaths = self._notes.deaths(suspect) or 0
        if deaths < self._notes.needed(suspect, self._least):
            await self._noted([suspect])
            return
        reason = f"{counted(deaths, 'task')} died while this record was alone in the model"
        suspect.settle(Dead(suspect.data, reason, "", deaths, "died"))
        self._on_event(DeadLettered("died"))


class _Room:
    """Lets many tries into the model at once, or a single one: of two tries at once, either may have killed the
    task.
    """

    def __init__(self) -> None:
        self._door = asyncio.Lock()
        self._empty = asyncio.Event()
        self._empty.set()
        self._inside = 0

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        async with self._door:
            self._inside += 1
            self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        async with self._door:
            await self._empty.wait()
            yield
