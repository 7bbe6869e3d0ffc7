"""A record that kills the whole command is found by the commands after it, and the others get their rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import pyarrow as pa

from consumer.letters.crashes import RedriveMarks, crashes_url, left_of
from consumer.letters.letter import LetterFilter
from consumer.letters.plan import LetterJudge, plan
from consumer.letters.redrive import Redrive, Result
from pipeline.record import Enriched, Record, Shard
from pipeline.replicas.crash_journal import CrashJournal
from pipeline.replicas.journaled_host import JournaledHost
from pipeline.stores.memory import MemoryStore
from pipeline.table.schema import TableSchema
from tests.support.dead_table import ROWS, DeadTable, dead

NOW = datetime(2026, 11, 27, tzinfo=UTC)
KILLER = 2


class Killed(BaseException):
    """The process is gone: nothing more is written."""


class Command:
    """One `penstock dead-letters redrive`, whose model kills the process at one record."""

    def __init__(self, table: DeadTable, crashes: MemoryStore, retries: int = 1) -> None:
        self.schema = TableSchema(ROWS, "events", "m2")
        self.slots, self.measures, self.safe_cost = 1, False, 0
        self.table = table
        self.gone = False
        self.tried: list[int] = []
        self.marks = RedriveMarks(crashes, self.surely)
        surely: Any = self.surely
        journal = CrashJournal(crashes, surely, switches=self.marks.switches, today=NOW.date)
        self.host = JournaledHost(_Inner(self), journal, retries=retries, on_event=lambda event: None)

    async def surely(self, call: Callable[[], Any]) -> Any:
        if self.gone:
            raise Killed
        return call()

    async def settle(self, shard: Shard, records: Sequence[Record]) -> None:
        await self.host.recall(shard, records[0])
        await self.host.settle(records)

    def run(self) -> Result:
        table = self.table
        judge = LetterJudge(table.table, table.notes)
        planned = plan(table.letters, judge, LetterFilter(), model_version="m2")
        redrive = Redrive(table.letters, table.table, table.notes, self.surely, now=lambda: NOW, marks=self.marks)
        return asyncio.run(redrive.run(planned, self))


class _Inner:
    slots, measures, safe_cost = 1, False, 0

    def __init__(self, command: Command) -> None:
        self._command = command

    async def settle(self, records: Sequence[Record]) -> None:
        for record in records:
            n = orjson.loads(record.data)["n"]
            self._command.tried.append(n)
            if n == KILLER:
                self._command.gone = True
                raise Killed
            record.settle(Enriched(pa.RecordBatch.from_pylist([{"n": n}], schema=ROWS), 0))

    async def measure(self, records: Sequence[Record]) -> None:
        return

    async def recall(self, shard: Shard, first: Record) -> None:
        return


def test_a_record_that_kills_every_command_is_found_and_the_others_get_their_rows() -> None:
    table, crashes = DeadTable(per_file=4), MemoryStore()
    table.write([dead(n) for n in (1, KILLER, 3)])
    runs = 0
    while True:
        runs += 1
        assert runs < 8, "it is never found"
        try:
            result = Command(table, crashes).run()
        except Killed:
            assert asyncio.run(Command(table, crashes).marks.left()), "the next command says so"
            continue
        break
    assert (result.redriven, result.failed) == (2, 1)
    (failure,) = result.failures
    assert (failure.kind, failure.position.sequence) == ("died", KILLER)
    assert "tasks died while this record was alone in the model" in failure.reason
    assert runs == 6, "one that says nothing, one that names them all, three with the record alone"


def test_a_mark_is_left_only_by_a_command_that_died() -> None:
    table, crashes = DeadTable(per_file=4), MemoryStore()
    table.write([dead(1)])
    Command(table, crashes).run()
    assert left_of(crashes.list("")) == []
    assert len(crashes.list("begun/")) == 2


def test_another_model_version_is_not_blamed() -> None:
    assert crashes_url("dead.redrives", "1") != crashes_url("dead.redrives", "2")
