"""A careful reading with a Kinesis stream as the only sink: it gets past the record, loses nothing, and sends little
twice."""

from __future__ import annotations

import asyncio
import threading
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pytest

from consumer.poison.doubt import MOST_PIECE, PIECE, Death, Doubt, parsed, written
from consumer.poison.held_leases import Held
from consumer.poison.notes import HOLDER, Noted
from consumer.poison.reader import Page, PoisonReader
from consumer.testing import aggregate
from pipeline.batching.batcher import Batcher
from pipeline.errors import Broken
from pipeline.flow.bounds import Bounds
from pipeline.metrics import Metrics
from pipeline.record import Enriched, Outcome, Position, Record, Run, Shard
from pipeline.sinks import Sink
from pipeline.sinks.dead_letters import DeadLetterSink
from pipeline.sinks.kinesis import KinesisSink
from pipeline.sinks.refused import RefusedLetters
from pipeline.stage import Stage
from pipeline.stores.memory import MemoryStore
from pipeline.table.schema import TableSchema
from pipeline.testing.fake_ports import FakeJudge

SHARD = Shard("source", 1, "shardId-000000000000")
SCHEMA = TableSchema(pa.schema([("n", pa.int64())]), "source", "model@1")
GIVE_UP_AFTER = 5
BEFORE = 2
"""Tasks that have died while KCL read the shard."""
COUNT = 300
BATCH = pa.RecordBatch.from_pydict({"n": list(range(COUNT))})


class Downstream:
    """A stream that outlives its tasks. ``dies`` is called with each call, before or after it is carried out."""

    def __init__(self, deadly: int, when: str, dies: Callable[[], None]) -> None:
        self.rows: list[int] = []
        self.when, self.dies = when, dies
        self._deadly = deadly

    def put_records(self, *, StreamName: str, Records: Sequence[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's
        numbers = [orjson.loads(each["Data"])["n"] for each in Records]
        kills = self._deadly in numbers
        if kills and self.when == "before its row is put":
            self.dies()
            raise ConnectionResetError
        self.rows += numbers
        if kills and self.when == "after its row is put":
            self.dies()
        return {"FailedRecordCount": 0, "Records": [{"SequenceNumber": "1", "ShardId": "s"} for _ in Records]}


class Life:
    """The shard over several tasks, and the rows that they have sent."""

    def __init__(self, records: Sequence[Record], deadly: int, when: str) -> None:
        self.records, self.deadly, self.when = records, deadly, when
        self.store = MemoryStore()
        self.stream = Downstream(deadly, when, self.kill)
        self.note = written(Doubt(deaths=tuple(Death(f"kcl-{n}", "the JVM ended") for n in range(BEFORE))))
        self.checkpoint: Position | None = None
        self.dead = threading.Event()
        self.tasks = 0
        self.die: Callable[[], None] = lambda: None

    def kill(self) -> None:
        self.die()

    # -- the lease, and the shard

    def hold(self, noted: Noted, holder: str, doubt: Doubt) -> bool:
        raise AssertionError("the shard is held already")

    def step(self, shard_id: str, holder: str, doubt: Doubt, checkpoint: Position | None = None) -> bool:
        if not self.dead.is_set():
            self.note, self.checkpoint = written(doubt), checkpoint or self.checkpoint
        return not self.dead.is_set()

    def keep(self, shard_id: str, holder: str) -> bool:
        return True

    def free(self, shard_id: str, holder: str, doubt: Doubt) -> bool:
        if not self.dead.is_set():
            self.note = written(doubt)
        return True

    def after(self, shard_id: str, position: Position | None) -> Page:
        after = position.sequence if position else 0
        found = [record for record in self.records if int(record.sequence) > after]
        return Page([copy(record) for record in found[:PIECE]], len(found) <= PIECE)

    # -- a task

    async def task(self) -> bool:
        """Return whether a task read everything. One that is killed writes nothing after that, not even its own end."""
        self.tasks += 1
        self.dead.clear()
        loop, killed = asyncio.get_running_loop(), asyncio.Event()

        def die() -> None:
            self.dead.set()
            loop.call_soon_threadsafe(killed.set)

        self.die = die
        sinks: list[Sink] = [
            KinesisSink(
                lambda: self.stream, "enriched", _table, letters=RefusedLetters(self.store, SCHEMA, "kinesis:enriched")
            ),
            DeadLetterSink(self.store, SCHEMA),
        ]
        batcher = Batcher(max_records=64, max_cost=0, linger_s=0.0)
        stage = Stage(Deadly(self), batcher, sinks, Bounds(10_000, 1 << 30), Metrics())
        running = asyncio.ensure_future(stage.run())
        careful = PoisonReader(
            stage,
            self,
            self,
            lambda shard_id: SHARD,
            f"task-{self.tasks}",
            give_up_after=GIVE_UP_AFTER,
            reads_ahead=10_000,
            on_event=lambda event: None,
        )
        doubt = parsed(self.note).begun(f"{HOLDER}task-{self.tasks}")
        self.note = written(doubt)

        async def failing() -> None:
            await killed.wait()
            raise Broken("killed")

        try:
            await careful.read(Held(SHARD.shard_id, self.checkpoint, doubt), failing)
        except Broken:
            return False
        finally:
            running.cancel()
            await asyncio.gather(running, *(sink.close() for sink in sinks), return_exceptions=True)
        return True

    @property
    def letters(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for body, _ in self.store.objects.values() for line in body.splitlines()]


class Deadly(FakeJudge):
    def __init__(self, life: Life) -> None:
        super().__init__(_enriched)
        self._life = life

    async def settle(self, records: Sequence[Record]) -> None:
        if self._life.when == "in the model" and any(number_of(record) == self._life.deadly for record in records):
            self._life.die()
            await asyncio.Event().wait()
        await super().settle(records)


def number_of(record: Record) -> int:
    return int(orjson.loads(record.data)["n"])


def _enriched(record: Record) -> Outcome:
    return Enriched(BATCH, number_of(record))


def _table(run: Run) -> pa.Table:
    rows = [each.outcome.row for each in run.records if isinstance(each.outcome, Enriched)]
    return pa.table({"n": rows})


def copy(record: Record) -> Record:
    return Record(record.shard_id, record.data, record.partition_key, record.sequence, 0, 1)


def payload(number: int) -> bytes:
    return orjson.dumps({"n": number})


def plain() -> list[Record]:
    return [Record(SHARD.shard_id, payload(n), "key", str(1000 + n), 0, 1) for n in range(COUNT)]


def aggregates() -> list[Record]:
    data = [aggregate(map(payload, range(n, n + 10))) for n in range(0, COUNT, 10)]
    return [Record(SHARD.shard_id, each, None, str(1000 + n), 0, 1) for n, each in enumerate(data)]


@pytest.mark.parametrize("records", [plain, aggregates])
@pytest.mark.parametrize("when", ["in the model", "before its row is put", "after its row is put"])
@pytest.mark.parametrize("deadly", [0, 150, COUNT - 1])
def test_the_culprit_is_passed_in_five_tasks(
    monkeypatch: pytest.MonkeyPatch, records: Callable[[], list[Record]], when: str, deadly: int
) -> None:
    """Rows may come again, as the sink documents, but only those of a piece over which a task died."""
    monkeypatch.setattr("consumer.poison.reader.PAUSE_S", 0.0)
    life = Life(records(), deadly, when)
    while not asyncio.run(asyncio.wait_for(life.task(), 20)):
        assert BEFORE + life.tasks <= GIVE_UP_AFTER
    deaths = life.tasks - 1
    (letter,) = life.letters
    assert (letter["kind"], b64decode(letter["payload_base64"])) == ("killed", payload(deadly))
    counted = Counter(life.stream.rows)
    delivered = set(range(COUNT)) - {deadly}
    assert delivered <= set(counted) <= delivered | ({deadly} if when.startswith("after") else set())
    again = {number for number, times in counted.items() if times > 1}
    assert max(counted.values()) <= 1 + deaths
    assert len(again) <= MOST_PIECE and all(abs(number - deadly) < MOST_PIECE for number in again)
    assert parsed(life.note) == Doubt()
    assert life.checkpoint is not None and life.checkpoint.sequence == int(life.records[-1].sequence)
