"""Carries out a plan: runs letters through the model, writes rows into the table, and notes failures.

Letters are processed in parts: the rows of a part are durable before the notes of its failures are written, and both
before the next part begins. After an interruption, a new plan continues after what is durable.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from consumer.letters.crashes import RedriveMarks
from consumer.letters.letter import Letter, LetterObject
from consumer.letters.plan import RedrivePlan
from pipeline.errors import Fatal
from pipeline.record import Dead, Record, Shard, settled_weight
from pipeline.sinks.chain import File
from pipeline.sinks.writable import ROW_FAULTS, without_unwritable
from pipeline.stores.base import ObjectStore
from pipeline.table import dead_positions
from pipeline.table.names import LETTERS
from pipeline.table.redrive_notes import Failure, RedriveNotes, failure_of
from pipeline.table.redriven import MOST_RECORDS, RedrivenRows, enriched
from pipeline.table.schema import TableSchema, encode
from pipeline.table.staged_letters import read_letters, sha256_of

STRETCH_BYTES = 32 * 1024 * 1024
"""Approximate bytes of payloads and rows in memory at a time."""

FIRST_RECORDS = 200
"""Letters in the first part, before the speed of the model is known."""

STRETCH_S = 30.0
"""Approximate seconds of the model's work in one part: this much is lost at an interruption."""

POSITIONS_BYTES = 64 * 1024
"""Bytes of a file's footer for the positions of its rows."""

SINK = "parquet"
"""The sink that a letter names if a row cannot be stored."""

KEPT = 20
"""Number of failures that a result keeps, to be shown."""


class RedriveModel(Protocol):
    """Settles records: :class:`consumer.feed.Feed`."""

    schema: TableSchema

    async def settle(self, shard: Shard, records: Sequence[Record]) -> None:
        """Return once each record has its outcome."""
        ...


@dataclass(slots=True)
class Result:
    """The result of the letters that were tried. ``stopped``: the canary failed, so the others were not tried.
    ``failures``: the first :data:`KEPT`."""

    redriven: int = 0
    failed: int = 0
    stopped: bool = False
    failures: list[Failure] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    """The record ids of ``failures``."""

    @property
    def tried(self) -> int:
        """Number of letters that now have a row, or one more failure."""
        return self.redriven + self.failed


@dataclass(frozen=True, slots=True)
class Redrive:
    """Where letters come from, and where rows and notes go. ``surely`` retries calls to a store."""

    letters: ObjectStore
    table: ObjectStore
    notes: ObjectStore
    surely: Callable[[Callable[[], Any]], Awaitable[Any]]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    marks: RedriveMarks | None = None
    """Where stretches are marked as begun; None: nowhere."""

    async def run(
        self,
        plan: RedrivePlan,
        model: RedriveModel,
        *,
        rate: float = 0.0,
        canary: int = 0,
        tell: Callable[[int], None] = lambda letters: None,
    ) -> Result:
        """Try the letters of the plan.

        ``rate``: maximum number of letters per second; 0: no limit. ``canary``: this many are tried first, and no
        others if one of them fails. ``tell`` is called with the number of letters whose rows and notes are durable.

        :raises Fatal: an object of letters has changed since it was planned, or the model's host cannot go on.
        """
        result = Result()
        began_s = self.clock()
        size = _Size(rate)
        rows = notes = None
        place = ""
        async for stretch in self._stretches(plan, size, canary):
            if result.failed and result.tried == canary:
                result.stopped = True
                break
            if stretch[0].place != place or rows is None or notes is None:
                place = stretch[0].place
                rows = RedrivenRows(self.table, place, model.schema, now=self.now)
                notes = RedriveNotes(self.notes, place)
            before_s = self.clock()
            held = await self._marked(stretch, model, rows, notes, result)
            size.learn(len(stretch), self.clock() - before_s, held)
            tell(len(stretch))
            if rate:
                await self.sleep(max(0.0, began_s + result.tried / rate - self.clock()))
        return result

    async def _marked(
        self, stretch: Sequence[Letter], model: RedriveModel, rows: RedrivenRows, notes: RedriveNotes, result: Result
    ) -> int:
        if self.marks is None:
            return await self._stretch(stretch, model, rows, notes, result)
        mark = await self.marks.begin(stretch[0].place)
        try:
            return await self._stretch(stretch, model, rows, notes, result)
        finally:
            await self.marks.end(mark)

    async def _stretch(
        self, stretch: Sequence[Letter], model: RedriveModel, rows: RedrivenRows, notes: RedriveNotes, result: Result
    ) -> int:
        """Settle the records. Return the bytes that they use in memory."""
        said, created_s = stretch[0].said, _created_s(stretch[0])
        records = [letter.record() for letter in stretch]
        await model.settle(Shard(said["stream"], created_s, said["shard_id"]), records)
        writer, now = uuid.uuid4().hex, self.now()
        records = await self._with_rows(records, rows, writer, model.schema)
        failures = [
            failure_of(record, record.outcome, model.schema.model_version, now, writer)
            for record in records
            if isinstance(record.outcome, Dead)
        ]
        await self.surely(lambda: notes.add(failures))
        result.redriven += len(records) - len(failures)
        result.failed += len(failures)
        ids = {letter.position: letter.record_id for letter in stretch}
        result.ids += [ids[each.position] for each in failures[: KEPT - len(result.failures)]]
        result.failures += failures[: KEPT - len(result.failures)]
        return settled_weight(records)

    async def _with_rows(
        self, records: list[Record], rows: RedrivenRows, writer: str, schema: TableSchema
    ) -> list[Record]:
        """Write the rows of the records that have one. If Parquet cannot hold a row, its record becomes dead, as in a
        task, and the others are written."""
        try:
            await self.surely(lambda: rows.add(enriched(records), writer))
        except MemoryError:
            raise
        except ROW_FAULTS:
            held = File("redriven rows", enriched(records), None, records[-1].position)
            judged = without_unwritable(held, lambda some: encode(schema.table(some), {}), SINK).records
            by_place = {record.position: record for record in judged}
            records = [by_place.get(record.position, record) for record in records]
            await self.surely(lambda: rows.add(enriched(records), writer))
        return records

    async def _stretches(self, plan: RedrivePlan, size: _Size, canary: int) -> AsyncIterator[Sequence[Letter]]:
        """Yield the plan's letters in parts, each of one day of a shard; the end of the canary is the end of a part."""
        stretch = _Stretch()
        before = 0
        for piece in plan.pieces:
            wanted = set(piece.positions)
            body = await self.surely(lambda key=piece.key: read_letters(self.letters, key))  # type: ignore[misc]
            for letter in _read(piece.key, body or b"", piece.sha256):
                if letter.position not in wanted:
                    continue
                if stretch.letters and (not stretch.has_room(letter, size.records) or before == canary):
                    yield stretch.letters
                    stretch = _Stretch()
                stretch.add(letter)
                before += 1
        if stretch.letters:
            yield stretch.letters


class _Stretch:
    """Letters of one day of a shard that are tried and written together."""

    def __init__(self) -> None:
        self.letters: list[Letter] = []
        self._bytes = 0
        self._positions = dead_positions.Size()

    def has_room(self, letter: Letter, records: int) -> bool:
        """Whether the letter fits into this part."""
        return (
            letter.place == self.letters[0].place
            and len(self.letters) < records
            and self._bytes + len(letter.payload) <= STRETCH_BYTES
            and self._positions.bytes + dead_positions.MOST_EACH <= POSITIONS_BYTES
        )

    def add(self, letter: Letter) -> None:
        """Add the next letter, in sequence order."""
        self.letters.append(letter)
        self._bytes += len(letter.payload)
        self._positions.add(letter.position)


class _Size:
    """Maximum number of letters in a part: as many as take ``STRETCH_S`` and have ``STRETCH_BYTES`` of rows, as far as
    known."""

    def __init__(self, rate: float) -> None:
        self._most = min(MOST_RECORDS, max(1, math.ceil(rate * STRETCH_S))) if rate else MOST_RECORDS
        self.records = min(FIRST_RECORDS, self._most)

    def learn(self, records: int, seconds: float, size_bytes: int) -> None:
        """Note the time and the memory of a part with this many letters."""
        in_time = records * STRETCH_S / seconds if seconds > 0 else MOST_RECORDS
        in_memory = records * STRETCH_BYTES // max(1, size_bytes)
        self.records = max(1, min(self._most, int(in_time), in_memory))


def _read(key: str, body: bytes, sha256: str) -> Iterator[Letter]:
    match = LETTERS.fullmatch(key)
    if match is None or sha256_of(body) != sha256:
        raise Fatal(f"{key} among the dead letters is not what it was when the redrive was planned. Plan it again")
    return LetterObject(key, match, body).letters()


def _created_s(letter: Letter) -> int:
    return int(letter.place.partition("/")[2].partition("-")[0])
