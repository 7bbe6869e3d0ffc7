"""Records that may take the whole task down: noted where the next task finds them.

A record that kills its replica is found by trying its batch one by one. One that kills the *task* leaves nobody to try:
the next task reads it again, and dies of it again, for ever. So a try that may be deadly is noted before it is made,
in a store that outlives the task, and the note is crossed off when the try has ended, however it ended. A note that
nobody crossed off says what the model had when a task died.

A try is noted

- when a batch has killed its replica, before its records are tried one by one;
- while the shard is in doubt: its lease has changed hands ``SWITCHES`` times without a checkpoint between;
- when a note of an earlier task names the record, which is then tried by itself.

A record that was by itself in enough such notes becomes a dead letter. So a record that kills every task which reads it
costs a few tasks, and no healthy record is blamed: it would have to be by itself in the model at that many crashes.
Nothing is noted otherwise, since a note costs a write.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

import orjson

from pipeline.errors import PenstockError
from pipeline.events import Condemned, ModelEvent
from pipeline.record import Dead, Position, Record, Shard
from pipeline.stores.base import ObjectStore, TooLarge
from pipeline.stores.calls import SureCalls

log = logging.getLogger("suspects")

SWITCHES = 2
"""Changes of a lease's owner without a checkpoint between, from which on its shard is in doubt."""

LEAST_ATTEMPTS = 2
"""Tasks that a record must have seen die while it was by itself in the model: one may have died of something else."""

DAYS_AT_MOST = 32
"""How many days of notes are looked through, from that of the shard's first unread record."""

SLACK_DAYS = 1
"""Arrival times of a shard go back a little now and then, and this machine's clock may be behind Kinesis'."""

MOST_BYTES = 16 * 1024 * 1024
"""No note has more: it says which records were tried."""

ENDED = ".ended"


class Inner(Protocol):
    """What tries records: :class:`pipeline.replicas.host.ModelHost`."""

    @property
    def slots(self) -> int: ...

    @property
    def measures(self) -> bool: ...

    @property
    def safe_cost(self) -> int: ...

    async def measure(self, records: Sequence[Record]) -> None: ...

    async def settle(self, records: Sequence[Record]) -> None: ...


class CrashJournal:
    """Of one task. Notes lie in ``store`` as ``dt=<day>/<stream created>-<shard>/<first position>-<id>.json``."""

    def __init__(
        self,
        store: ObjectStore,
        surely: SureCalls,
        *,
        switches: Callable[[str], Awaitable[int]],
        today: Callable[[], date] = lambda: datetime.fromtimestamp(time.time(), UTC).date(),
    ) -> None:
        """``switches``: how often a shard's lease has changed hands since its last checkpoint."""
        self._store = store
        self._surely = surely
        self._switches = switches
        self._today = today
        self._shards: dict[str, Shard] = {}
        self._deaths: dict[str, Counter[Position]] = {}
        self._in_doubt: set[str] = set()

    async def recall(self, shard: Shard, first: Record) -> None:
        """Read what earlier tasks noted of the shard, from its first unread record on."""
        shard_id = shard.shard_id
        self._shards[shard_id] = shard
        deaths: Counter[Position] = Counter()
        for body in await self._surely(lambda: self._open(shard, first)):
            note = orjson.loads(body)
            for position in (Position(int(sequence), sub) for sequence, sub in note["records"]):
                if position >= first.position:
                    deaths[position] += note["alone"]
        self._deaths[shard_id] = deaths
        self.believe(shard_id)
        if deaths or await self._switches(shard_id) >= SWITCHES:
            self._in_doubt.add(shard_id)
            log.warning("%s is in doubt: tasks have ended over it, %d records are suspects", shard_id, len(deaths))

    def believe(self, shard_id: str) -> None:
        """A checkpoint of the shard was taken: it is not in doubt any more. Its suspects are.

        Not before: what is merely durable is behind the next task, too, and if that were enough, each would get as far
        as the last one and die of the same record, unnoted.
        """
        self._in_doubt.discard(shard_id)

    def in_doubt(self, record: Record) -> bool:
        return record.shard_id in self._in_doubt

    def deaths(self, record: Record) -> int | None:
        """How many tasks died while the model had this record by itself; None if it is no suspect at all."""
        deaths = self._deaths.get(record.shard_id)
        if not deaths or record.position not in deaths:
            return None
        return deaths[record.position]

    def suspects(self, records: Sequence[Record]) -> list[Record]:
        """Those of the records that are suspects; most shards have none, and are not looked through."""
        if not any(self._deaths.get(shard_id) for shard_id in {record.shard_id for record in records}):
            return []
        return [record for record in records if self.deaths(record) is not None]

    async def begin(self, records: Sequence[Record]) -> Note:
        """Return once it is noted that these are about to be tried."""
        by_shard: dict[str, list[Record]] = {}
        for record in records:
            if record.shard_id in self._shards:
                by_shard.setdefault(record.shard_id, []).append(record)
        keys = [self._key(each[0]) for each in by_shard.values()]
        bodies = [_body(each, alone=len(records) == 1) for each in by_shard.values()]
        await asyncio.gather(*(self._put(key, body) for key, body in zip(keys, bodies, strict=True)))
        return Note(self, keys)

    async def end(self, keys: Sequence[str]) -> None:
        await asyncio.gather(*(self._put(f"{key}{ENDED}", b"") for key in keys))

    async def check(self) -> None:
        """At start: the notes can be written, and nobody else can; or ``UserError``."""
        await self._surely.check(self._store.check)

    async def _put(self, key: str, body: bytes) -> None:
        """False from a repeated write is our own answer that was lost: names are ours alone."""
        await self._surely(lambda: self._store.put_new(key, body, {}))

    def _open(self, shard: Shard, first: Record) -> list[bytes]:
        """The notes that nobody crossed off."""
        day = _day(first) - timedelta(days=SLACK_DAYS)
        last = max(self._today(), _day(first)) + timedelta(days=SLACK_DAYS)
        keys: list[str] = []
        for past in range(min(DAYS_AT_MOST, (last - day).days + 1)):
            found = set(self._store.list(_prefix(day + timedelta(days=past), shard)))
            keys += sorted(key for key in found if not key.endswith(ENDED) and f"{key}{ENDED}" not in found)
        return [body for key in keys if (body := self._read(key)) is not None]

    def _read(self, key: str) -> bytes | None:
        try:
            return self._store.get(key, MOST_BYTES)
        except TooLarge:
            return None

    def _key(self, first: Record) -> str:
        place = f"{first.sequence.zfill(56)}-{first.sub:06d}"
        return f"{_prefix(_day(first), self._shards[first.shard_id])}{place}-{uuid.uuid4().hex}.json"


class Note:
    """Made by :meth:`CrashJournal.begin`."""

    def __init__(self, notes: CrashJournal, keys: Sequence[str]) -> None:
        self._notes = notes
        self._keys = keys

    async def end(self) -> None:
        """The try has ended, and the task lives."""
        await self._notes.end(self._keys)


class JournaledHost:
    """A judge that notes what may be deadly before ``inner`` tries it. ``retries`` as in ``[model]``."""

    def __init__(
        self, inner: Inner, notes: CrashJournal, *, retries: int, on_event: Callable[[ModelEvent], None]
    ) -> None:
        self._inner = inner
        self._notes = notes
        self._most = max(LEAST_ATTEMPTS, retries + 1)
        self._on_event = on_event
        self._model = _Room()

    @property
    def slots(self) -> int:
        return self._inner.slots

    @property
    def measures(self) -> bool:
        return self._inner.measures

    @property
    def safe_cost(self) -> int:
        return self._inner.safe_cost

    async def measure(self, records: Sequence[Record]) -> None:
        """Suspects are measured with the others: what costs are asked in has no weights to die of."""
        await self._inner.measure(records)

    async def recall(self, shard: Shard, first: Record) -> None:
        await self._notes.recall(shard, first)

    def believe(self, shard: Shard) -> None:
        self._notes.believe(shard.shard_id)

    async def settle(self, records: Sequence[Record]) -> None:
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
        """A task that gives up (its device is lost, its weights are gone) has not died of these."""
        note = await self._notes.begin(records)
        try:
            await self._inner.settle(records)
        except PenstockError:
            await note.end()
            raise
        await note.end()

    async def _alone(self, suspect: Record) -> None:
        deaths = self._notes.deaths(suspect) or 0
        if deaths < self._most:
            await self._noted([suspect])
            return
        reason = f"{deaths} tasks ended while the model had this record by itself"
        suspect.settle(Dead(suspect.data, reason, "", deaths, "died"))
        self._on_event(Condemned("died"))


class _Room:
    """Many at once, or one by itself: of two that are in the model together, nobody can tell which a task died of."""

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


def _body(records: Sequence[Record], *, alone: bool) -> bytes:
    """``alone``: the model has nothing else, of this shard or another."""
    return orjson.dumps({"alone": alone, "records": [[record.sequence, record.sub] for record in records]})


def _day(record: Record) -> date:
    return datetime.fromtimestamp(record.arrived_ms / 1000, UTC).date()


def _prefix(day: date, shard: Shard) -> str:
    return f"dt={day.isoformat()}/{shard.stream_created_s}-{shard.shard_id}/"
