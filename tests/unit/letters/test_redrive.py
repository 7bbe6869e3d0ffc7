"""A redrive: planned first, carried out in parts, interrupted and continued; each record gets one row."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import pyarrow as pa
import pytest

from consumer.letters.letter import LetterFilter, objects
from consumer.letters.plan import (
    AGAIN,
    CANNOT,
    IS_AGGREGATE,
    NO_PAYLOAD,
    NOT_NAMED,
    REDRIVEN,
    WAITS,
    LetterJudge,
    RedrivePlan,
    plan,
)
from consumer.letters.redrive import Redrive, Result
from pipeline.errors import Fatal
from pipeline.kpl import MAGIC
from pipeline.record import Dead, Enriched, Record, Shard
from pipeline.stores.memory import MemoryStore
from pipeline.table.footer import REDRIVEN_POSITIONS, footer_in
from pipeline.table.schema import TableSchema
from tests.support.dead_table import ROWS, SHARD, DeadTable, Fate, dead

NOW = datetime(2026, 11, 27, tzinfo=UTC)
OTHER = Shard("events", 1, "shardId-000000000001")


class FakeModel:
    """Fails on the numbers in ``bad``; ``ends_after``: raises after this many records."""

    def __init__(self, *bad: int, version: str = "m2", ends_after: int = 10**9) -> None:
        self.schema = TableSchema(ROWS, "events", version)
        self.bad = bad
        self.ends_after = ends_after
        self.tried: list[int] = []
        self.stretches: list[tuple[str, int]] = []
        self.works: Callable[[int], None] = lambda count: None

    async def settle(self, shard: Shard, records: Sequence[Record]) -> None:
        if len(self.tried) >= self.ends_after:
            raise KeyboardInterrupt
        self.stretches.append((shard.shard_id, len(records)))
        self.works(len(records))
        assert [record.position for record in records] == sorted(record.position for record in records)
        for record in records:
            n = orjson.loads(record.data)["n"]
            self.tried.append(n)
            if n in self.bad:
                record.settle(Dead(record.data, f"{n} is bad again", "", 1, "rejected"))
            else:
                record.settle(Enriched(pa.RecordBatch.from_pylist([{"n": n}], schema=ROWS), 0))


class World:
    def __init__(self, *fates: Fate, per_file: int = 4) -> None:
        self.table = DeadTable(per_file=per_file)
        if fates:
            self.table.write(fates)
        self.slept: list[float] = []
        self.now_s = 0.0

    def plan(self, chosen: LetterFilter | None = None, version: str = "m2", again: bool = False) -> RedrivePlan:
        judge = LetterJudge(self.table.table, self.table.notes)
        return plan(self.table.letters, judge, chosen or LetterFilter(), model_version=version, again=again)

    def run(self, model: FakeModel, planned: RedrivePlan | None = None, **more: Any) -> Result:
        redrive = Redrive(
            self.table.letters,
            self.table.table,
            self.table.notes,
            surely=self._at_once,
            now=lambda: NOW,
            clock=lambda: self.now_s,
            sleep=self._sleep,
        )
        return asyncio.run(redrive.run(planned or self.plan(version=model.schema.model_version), model, **more))

    def pass_(self, seconds: float) -> None:
        self.now_s += seconds

    async def _at_once(self, call: Callable[[], Any]) -> Any:
        return call()

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


def fates(*bad: int, count: int = 25) -> list[Fate]:
    return [dead(n) if n in bad else Fate(n) for n in range(1, count)]


def test_records_that_pass_get_a_row_and_failures_are_counted() -> None:
    world = World(*fates(2, 3, 11, 12, 24))
    result = world.run(FakeModel(3, 24))
    assert (result.redriven, result.failed, result.stopped) == (3, 2, False)
    report = world.table.audit()
    assert report.problems == []
    assert (report.rows, report.dead_letters, report.redriven) == (22, 5, 3)
    again = world.plan(version="m3")
    assert again.kinds == {("exception", REDRIVEN): 3, ("exception", AGAIN): 2}
    assert again.records == 2


class PickySchema(TableSchema):
    """Cannot make a table with the number 7."""

    def table(self, records: Sequence[Record], processed_at: datetime | None = None) -> pa.Table:
        if any(record.position.sequence == 7 and isinstance(record.outcome, Enriched) for record in records):
            raise pa.ArrowInvalid("7 is out of range")
        return super().table(records, processed_at)


def test_a_row_that_parquet_cannot_hold_is_a_failure_of_its_record_alone() -> None:
    world = World(*fates(6, 7, 8))
    model = FakeModel()
    model.schema = PickySchema(ROWS, "events", "m2")
    result = world.run(model)
    assert (result.redriven, result.failed) == (2, 1)
    assert result.failures[0].kind == "sink" and "7 is out of range" in result.failures[0].reason
    assert world.table.audit().problems == [] and world.table.audit().redriven == 2


def test_redriving_twice_leaves_one_row() -> None:
    world = World(*fates(2, 3))
    old = world.plan()
    world.run(FakeModel())
    world.run(FakeModel(), old)
    report = world.table.audit()
    assert report.problems == [] and (report.rows, report.redriven) == (24, 2)
    assert world.plan().records == 0


def test_letters_that_failed_again_are_tried_with_another_version_or_on_request() -> None:
    world = World(*fates(2, 3))
    world.run(FakeModel(2, 3))
    assert (world.plan().records, world.plan().skipped) == (0, 2)
    assert world.plan(again=True).records == 2
    world.run(FakeModel(2, 3), world.plan(again=True))
    model = FakeModel(2, version="m3")
    assert world.run(model).redriven == 1
    judge = LetterJudge(world.table.table, world.table.notes)
    verdicts = [verdict for of in objects(world.table.letters, LetterFilter()) for _, verdict in judge.verdicts(of)]
    assert [(verdict.state, len(verdict.failures)) for verdict in verdicts] == [(AGAIN, 3), (REDRIVEN, 2)]


def test_an_interrupted_redrive_continues_after_durable_records() -> None:
    bad = [*range(1, 50)]
    world = World(*fates(*bad, count=60))
    with pytest.raises(KeyboardInterrupt):
        world.run(FakeModel(ends_after=20), rate=0.5)
    done = world.table.audit().redriven
    assert 0 < done < 49
    model = FakeModel()
    world.run(model)
    assert len(model.tried) == 49 - done
    assert world.table.audit().problems == [] and world.table.audit().redriven == 49


def test_a_stretch_is_of_one_shards_day_and_files_are_few() -> None:
    world = World()
    world.table.per_day = 100
    world.table.write(fates(*range(1, 25)))
    world.table.write([dead(n) for n in range(1, 9)], OTHER)
    model = FakeModel()
    world.run(model)
    assert model.stretches == [(SHARD.shard_id, 24), (OTHER.shard_id, 8)]
    assert len([key for key in world.table.table.list("") if "-redriven-" in key]) == 2


def test_the_canary_stops_the_rest_if_one_of_it_fails() -> None:
    world = World(*fates(*range(1, 20)))
    model = FakeModel(3)
    result = world.run(model, canary=5)
    assert (result.redriven, result.failed, result.stopped) == (4, 1, True)
    assert model.tried == [1, 2, 3, 4, 5]
    good = FakeModel(19)
    whole = world.run(good, canary=5)
    assert (whole.redriven, whole.failed, whole.stopped) == (13, 1, False)


def test_failures_after_the_canary_stop_nothing() -> None:
    world = World(*fates(*range(1, 25)))
    model = FakeModel(8, 12)
    result = world.run(model, canary=5)
    assert (result.redriven, result.failed, result.stopped) == (22, 2, False)


def test_a_canary_of_all_letters_stops_nothing() -> None:
    world = World(*fates(1, 2))
    result = world.run(FakeModel(1), canary=2)
    assert (result.redriven, result.failed, result.stopped) == (1, 1, False)


def test_a_rate_is_kept_by_waiting_after_each_stretch() -> None:
    world = World()
    world.table.per_day = 100
    world.table.write(fates(*range(1, 51), count=60))
    model = FakeModel()
    world.run(model, rate=2.0)
    assert [count for _, count in model.stretches] == [50]
    assert world.slept == [25.0]
    slow = World()
    slow.table.per_day = 100
    slow.table.write(fates(*range(1, 51), count=60))
    slow.run(model := FakeModel(), rate=0.5)
    assert [count for _, count in model.stretches] == [15, 15, 15, 5]
    assert slow.slept == [30.0, 30.0, 30.0, 10.0]


def test_a_part_is_half_a_minute_of_the_models_work() -> None:
    world = World()
    world.table.per_day = 10_000
    world.table.write(fates(*range(1, 701), count=701))
    model = FakeModel()
    model.works = lambda count: world.pass_(count / 10)
    world.run(model)
    assert [count for _, count in model.stretches] == [200, 300, 200]


def test_a_stretch_is_as_short_as_its_rows_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumer.letters.redrive.STRETCH_BYTES", 20_000)
    world = World()
    world.table.per_day = 10_000
    world.table.write(fates(*range(1, 401), count=401))
    model = FakeModel()
    world.run(model)
    counts = [count for _, count in model.stretches]
    assert counts[0] == 200 and max(counts[1:]) < 100 and sum(counts) == 400


def test_a_stretch_ends_before_its_places_fill_a_footer() -> None:
    world = World()
    far = 10**50
    world.table.per_day = far * 2000
    world.table.write([dead(n * far + n % 3, payload=b'{"n": 1}') for n in range(1, 1500)])
    model = FakeModel()
    world.run(model)
    assert sum(count for _, count in model.stretches) == 1499
    for key in world.table.table.list(""):
        if "-redriven-" in key:
            footer = footer_in(world.table.table, key)
            assert len(footer[REDRIVEN_POSITIONS]) <= 64 * 1024
    assert 2 < len(model.stretches) < 5


def test_letters_that_cannot_be_redriven_are_separated() -> None:
    world = World(
        dead(1, "sink", payload=b""),
        dead(2, "killed", payload=b""),
        dead(3, "aggregate", payload=MAGIC + b"x"),
        dead(4, "killed", payload=MAGIC + b"x"),
        dead(5, "decode", payload=b""),
        dead(6),
        per_file=2,
    )
    planned = world.plan()
    assert planned.cannot == {NO_PAYLOAD: 2, IS_AGGREGATE: 2}
    assert planned.records == 2
    assert planned.kinds["killed", CANNOT] == 2 and planned.kinds["decode", WAITS] == 1


def test_letters_that_no_file_of_the_table_names_are_not_touched() -> None:
    world = World(*fates(2, 3, count=5))
    assert isinstance(world.table.table, MemoryStore)
    world.table.table.objects.clear()
    planned = world.plan()
    assert planned.records == 0 and planned.cannot == {NOT_NAMED: 2}


def test_two_tables_may_have_their_letters_at_one_url() -> None:
    world, other = World(*fates(2, 3, count=5)), World()
    other.table.letters = world.table.letters
    other.table.write(fates(3, count=5))
    assert len(world.table.letters.list("")) == 2
    assert world.run(FakeModel()).redriven == 2
    planned = other.plan()
    assert (planned.records, planned.cannot) == (1, {NOT_NAMED: 2})
    assert other.run(FakeModel()).redriven == 1
    assert [each.table.audit().redriven for each in (world, other)] == [2, 1]


def test_letters_that_have_changed_since_the_plan_end_the_redrive() -> None:
    world = World(*fates(2, 3, count=5))
    planned = world.plan()
    letters = world.table.letters
    assert isinstance(letters, MemoryStore)
    key = next(iter(letters.objects))
    letters.objects[key] = (letters.objects[key][0].replace(b"bad", b"odd"), {})
    with pytest.raises(Fatal, match="is not what it was when the redrive was planned"):
        world.run(FakeModel(), planned)


def test_only_selected_letters_are_tried() -> None:
    world = World(
        dead(1, "timeout", "timed out after 3 s"), dead(2, "rejected", "no text"), dead(11, "timeout", "Timed out")
    )

    def tried(chosen: LetterFilter) -> list[str]:
        return [str(position) for piece in world.plan(chosen).pieces for position in piece.positions]

    assert tried(LetterFilter(kind="timeout")) == ["1/0", "11/0"]
    assert tried(LetterFilter(reason="TIMED out")) == ["1/0", "11/0"]
    assert tried(LetterFilter(shard_id="shardId-000000000009")) == []
    assert tried(LetterFilter(model_version="m1")) == ["1/0", "2/0", "11/0"]
    assert tried(LetterFilter(model_version="m2")) == []
    day = datetime.fromtimestamp(1_794_960_000 + 86_400, UTC)
    assert tried(LetterFilter(since=day)) == ["11/0"]
    assert tried(LetterFilter(until=day)) == ["1/0", "2/0"]
    assert tried(LetterFilter(where=lambda fields: fields["data"]["n"] == 2)) == ["2/0"]
