"""Notes which records the model had when a task crashed, where the next task finds them.

A record that kills its replica is found by trying its batch one by one. A record that kills the whole *task* would kill
the next task as well, and every task after it. So a try that may kill the task is noted before it is made, in a store
that outlives the task. The note is ended when the try has ended with any result. A note that was not ended tells what
the model had when a task died.

A try is noted

- when a batch has killed its replica, before its records are tried one by one;
- while the shard is in doubt: its lease has changed hands ``SWITCHES`` times without a checkpoint;
- when a note of an earlier task names the record, which is then tried alone.

A record that was alone in enough such notes becomes a dead letter. So a record that kills every task that reads it
costs a few tasks. Nothing else is noted, since each note costs a write.

A task may also die of something else while it has a healthy record alone: a host fails, or a process is killed. Two
rules protect that record. A task that was asked to leave ends its notes and writes no more, so a kill at the end of the
stop time-out does not count. And deaths of other causes raise the number that is needed: each change of the lease's
owner that the notes do not explain needs one more death with the record alone, ``MOST_MORE`` at most.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta

import orjson

from pipeline.errors import PenstockError, counted
from pipeline.record import Position, Record, Shard
from pipeline.stores.base import ObjectStore, TooLarge
from pipeline.stores.calls import SureCalls

log = logging.getLogger("suspects")

SWITCHES = 2
"""A shard is in doubt once its lease has changed owner this often without a checkpoint."""

NAMED_AFTER = 1
"""How many tasks a record kills in a shard in doubt before a note names it: its batch is noted."""

MOST_MORE = 3
"""How many more deaths may be needed where tasks die of other causes too."""

DAYS_AT_MOST = 32
"""How many days of notes are read, from the day of the shard's first unread record."""

SLACK_DAYS = 1
"""Arrival times in a shard sometimes go back a little, and this machine's clock may be behind Kinesis'."""

MOST_BYTES = 16 * 1024 * 1024
"""The largest note that is read, in bytes."""

ENDED = ".ended"


class CrashJournal:
    """The notes of one task, in ``store`` at ``dt=<day>/<stream created>-<shard>/<first position>-<id>.json``.

    ``surely`` retries calls to the store; its ``Fatal`` and ``Denied`` may come from every coroutine here.
    """

    def __init__(
        self,
        store: ObjectStore,
        surely: SureCalls,
        *,
        switches: Callable[[str], Awaitable[int]],
        today: Callable[[], date] = lambda: datetime.fromtimestamp(time.time(), UTC).date(),
    ) -> None:
        """``switches``: how often a shard's lease has changed owner since its last checkpoint."""
        self._store = store
        self._surely = surely
        self._switches = switches
        self._today = today
        self._shards: dict[str, Shard] = {}
        self._deaths: dict[str, Counter[Position]] = {}
        self._changes: dict[str, int] = {}
        self._in_doubt: set[str] = set()
        self._open: set[str] = set()
        self._leaving = False

    async def recall(self, shard: Shard, first: Record) -> None:
        """Read what earlier tasks noted of the shard, from its first unread record on. Call it before its first
        batch.
        """
        shard_id = shard.shard_id
        self._shards[shard_id] = shard
        deaths: Counter[Position] = Counter()
        for body in await self._surely(lambda: self._unended(shard, first)):
            note = orjson.loads(body)
            for position in (Position(int(sequence), sub) for sequence, sub in note["records"]):
                if position >= first.position:
                    deaths[position] += note["alone"]
        self._deaths[shard_id] = deaths
        self._changes[shard_id] = await self._switches(shard_id)
        self.trust(shard_id)
        if deaths or self._changes[shard_id] >= SWITCHES:
            self._in_doubt.add(shard_id)
            log.warning(
                "%s is in doubt: tasks died while they had it; suspects: %s", shard_id, counted(len(deaths), "record")
            )

    def trust(self, shard_id: str) -> None:
        """A checkpoint of the shard was written: it is not in doubt any more. Its suspects remain suspects.

        A durable range without a checkpoint is not enough: the next task starts before it and may die of the same
        record.
        """
        self._in_doubt.discard(shard_id)

    def in_doubt(self, record: Record) -> bool:
        """Whether the record's shard is in doubt."""
        return record.shard_id in self._in_doubt

    def deaths(self, record: Record) -> int | None:
        """How many tasks died while the model had this record alone; None if no note names it."""
        deaths = self._deaths.get(record.shard_id)
        if not deaths or record.position not in deaths:
            return None
        return deaths[record.position]

    def needed(self, record: Record, least: int) -> int:
        """How many deaths with this record alone blame it: ``least``, or more where tasks die of other causes too.

        A death that is noted with one record alone ended the whole task, so it explains a change of owner of every
        shard. Deaths with a record count as explained once that record has ``least`` of them.
        """
        of_all = (count for deaths in self._deaths.values() for count in deaths.values())
        explained = SWITCHES + sum(NAMED_AFTER + count for count in of_all if count >= least)
        return least + min(max(0, self._changes.get(record.shard_id, 0) - explained), MOST_MORE)

    async def leave(self) -> None:
        """The task was asked to leave: end the notes that are open, and write no more. From now on it may be killed.

        A note that cannot be ended now counts if the task is killed. That is no reason to end the drain with an error.
        """
        self._leaving = True
        try:
            await self.end(sorted(self._open))
        except PenstockError as error:
            log.warning("notes of this task were not ended: %s", error)

    def suspects(self, records: Sequence[Record]) -> list[Record]:
        """Return the records that notes name. Costs nothing for shards without notes."""
        if not any(self._deaths.get(shard_id) for shard_id in {record.shard_id for record in records}):
            return []
        return [record for record in records if self.deaths(record) is not None]

    async def begin(self, records: Sequence[Record]) -> Note:
        """Note that these records are about to be tried. Returns once the note is written, unless the task leaves."""
        if self._leaving:
            return Note(self, ())
        by_shard: dict[str, list[Record]] = {}
        for record in records:
            if record.shard_id in self._shards:
                by_shard.setdefault(record.shard_id, []).append(record)
        keys = [self._key(each[0]) for each in by_shard.values()]
        bodies = [_body(each, alone=len(records) == 1) for each in by_shard.values()]
        await asyncio.gather(*(self._put(key, body) for key, body in zip(keys, bodies, strict=True)))
        self._open.update(keys)
        if self._leaving:
            await self.end(keys)
        return Note(self, keys)

    async def end(self, keys: Sequence[str]) -> None:
        """End the notes with these keys. One that was ended before stays ended."""
        await asyncio.gather(*(self._put(f"{key}{ENDED}", b"") for key in keys))
        self._open.difference_update(keys)

    async def check(self) -> None:
        """Check at start that the notes can be written, and that nobody else can write there.

        :raises UserError: they cannot, or another user can.
        """
        await self._surely.check(self._store.check)

    async def _put(self, key: str, body: bytes) -> None:
        """Write a note. False from a retried write is our own earlier try: no other writer uses these keys."""
        await self._surely(lambda: self._store.put_new(key, body, {}))

    def _unended(self, shard: Shard, first: Record) -> list[bytes]:
        """Return the notes that were not ended."""
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
    """A noted try. Made by :meth:`CrashJournal.begin`."""

    def __init__(self, notes: CrashJournal, keys: Sequence[str]) -> None:
        self._notes = notes
        self._keys = keys

    async def end(self) -> None:
        """End the note: the try has ended, and the task lives."""
        await self._notes.end(self._keys)


def _body(records: Sequence[Record], *, alone: bool) -> bytes:
    """The note's text. ``alone``: the model has no other record, of any shard."""
    return orjson.dumps({"alone": alone, "records": [[record.sequence, record.sub] for record in records]})


def _day(record: Record) -> date:
    return datetime.fromtimestamp(record.arrived_ms / 1000, UTC).date()


def _prefix(day: date, shard: Shard) -> str:
    return f"dt={day.isoformat()}/{shard.stream_created_s}-{shard.shard_id}/"
