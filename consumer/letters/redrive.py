"""Carries a plan out: letters through the model, rows into the table, what fails again into the notes.

Stretch by stretch: the rows of a stretch are durable before the notes of its failures are written, and both before the
next stretch begins. Whoever is interrupted plans anew and goes on behind what is durable.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from consumer.letters.letter import Letter, LetterObject
from consumer.letters.plan import Plan
from pipeline.errors import Fatal
from pipeline.record import Dead, Record, Shard
from pipeline.stores.base import ObjectStore
from pipeline.table.names import LETTERS
from pipeline.table.redrive_notes import Failure, RedriveNotes, failure_of
from pipeline.table.redriven import MOST_RECORDS, RedrivenRows, enriched
from pipeline.table.schema import TableSchema
from pipeline.table.staged_letters import read_letters, sha256_of

STRETCH_BYTES = 32 * 1024 * 1024
"""Of payloads that are in memory at a time, about."""

STRETCH_S = 10.0
"""With a rate, a stretch has what is due in so long, so that its rows are durable soon."""


KEPT = 20
"""Failures that a result keeps, to be shown."""


class RedriveModel(Protocol):
    """What settles records: :class:`consumer.feed.Feed`."""

    schema: TableSchema

    async def settle(self, shard: Shard, records: Sequence[Record]) -> None:
        """Return once each record has its outcome."""
        ...


@dataclass(slots=True)
class Result:
    """What became of the letters that were tried. ``stopped``: the canary failed, so that the others were not tried.

    ``failures``: the first :data:`KEPT`.
    """

    redriven: int = 0
    failed: int = 0
    stopped: bool = False
    failures: list[Failure] = field(default_factory=list)

    @property
    def tried(self) -> int:
        """Letters that have a row now, or one failure more."""
        return self.redriven + self.failed


@dataclass(frozen=True, slots=True)
class Redrive:
    """Where letters come from and where rows and notes go. ``surely`` makes a store's call until it is answered."""

    letters: ObjectStore
    table: ObjectStore
    notes: ObjectStore
    surely: Callable[[Callable[[], Any]], Awaitable[Any]]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    async def run(
        self,
        plan: Plan,
        model: RedriveModel,
        *,
        rate: float = 0.0,
        canary: int = 0,
        tell: Callable[[int], None] = lambda letters: None,
    ) -> Result:
        """Try the letters of the plan. ``rate``: letters a second at most; 0: as many as the model takes.

        ``canary``: so many are tried first, and nothing more if one of them fails. ``tell`` hears of letters that are
        done: their rows and notes are durable.

        :raises Fatal: an object of letters is not what it was when it was planned, or the model's host cannot go on.
        """
        result = Result()
        began_s = self.clock()
        rows = notes = None
        place = ""
        async for stretch in self._stretches(plan, rate, canary):
            if result.failed and result.tried == canary:
                result.stopped = True
                break
            if stretch[0].place != place or rows is None or notes is None:
                place = stretch[0].place
                rows = RedrivenRows(self.table, place, model.schema, now=self.now)
                notes = RedriveNotes(self.notes, place)
            await self._stretch(stretch, model, rows, notes, result)
            tell(len(stretch))
            if rate:
                await self.sleep(max(0.0, began_s + result.tried / rate - self.clock()))
        return result

    async def _stretch(
        self, stretch: Sequence[Letter], model: RedriveModel, rows: RedrivenRows, notes: RedriveNotes, result: Result
    ) -> None:
        said, created_s = stretch[0].said, _created_s(stretch[0])
        records = [letter.record() for letter in stretch]
        await model.settle(Shard(said["stream"], created_s, said["shard_id"]), records)
        writer, now = uuid.uuid4().hex, self.now()
        good = enriched(records)
        failures = [
            failure_of(record, record.outcome, model.schema.model_version, now, writer)
            for record in records
            if isinstance(record.outcome, Dead)
        ]
        await self.surely(lambda: rows.add(good, writer))
        await self.surely(lambda: notes.add(failures))
        result.redriven += len(good)
        result.failed += len(failures)
        result.failures += failures[: KEPT - len(result.failures)]

    async def _stretches(self, plan: Plan, rate: float, canary: int) -> Any:
        """The plan's letters in stretches, each of one shard's day; the canary's end is the end of one."""
        most = min(MOST_RECORDS, max(1, math.ceil(rate * STRETCH_S))) if rate else MOST_RECORDS
        before = 0
        stretch: list[Letter] = []
        for piece in plan.pieces:
            wanted = set(piece.positions)
            body = await self.surely(lambda key=piece.key: read_letters(self.letters, key))  # type: ignore[misc]
            for letter in _read(piece.key, body or b"", piece.sha256):
                if letter.position not in wanted:
                    continue
                if stretch and (stretch[0].place != letter.place or _is_full(stretch, most) or before == canary):
                    yield stretch
                    stretch = []
                stretch.append(letter)
                before += 1
        if stretch:
            yield stretch


def _read(key: str, body: bytes, sha256: str) -> Iterator[Letter]:
    match = LETTERS.fullmatch(key)
    if match is None or sha256_of(body) != sha256:
        raise Fatal(f"{key} among the dead letters is not what it was when the redrive was planned. Plan it again")
    return LetterObject(key, match, body).letters()


def _is_full(stretch: Sequence[Letter], most: int) -> bool:
    return len(stretch) >= most or sum(len(letter.payload) for letter in stretch) >= STRETCH_BYTES


def _created_s(letter: Letter) -> int:
    return int(letter.place.partition("/")[2].partition("-")[0])
