"""The auditor accepts a good table, and names every problem of a bad one."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.record import Position, Run, Shard
from pipeline.sinks.chain import Chain
from pipeline.sinks.parquet import Files
from pipeline.stores.memory import MemoryStore
from pipeline.table.audit import AuditReport, audit
from pipeline.table.footer import footer_of
from pipeline.table.names import Names
from pipeline.table.schema import encode
from pipeline.table.seal import BLANK, SHA256, sealed
from pipeline.table.staged_letters import Ledger
from tests.support.settled_records import SCHEMA, SHARD, record, run, runs

OTHER = Shard("events", SHARD.stream_created_s, "shardId-000000000001")
NAME = f"{SHARD.stream_created_s}-{SHARD.shard_id}"


class Table:
    """Two shards, written by the product's own code: once, and then copied."""

    def __init__(self, *, empty: bool = False) -> None:
        self.store, self.dead, self.staged = MemoryStore(), MemoryStore(), MemoryStore()
        if not empty:
            for mine, theirs in zip(self._stores(), written_once()._stores(), strict=True):
                mine.objects = {key: (body, dict(on_object)) for key, (body, on_object) in theirs.objects.items()}

    def _stores(self) -> tuple[MemoryStore, ...]:
        return self.store, self.dead, self.staged

    def write(self, shard: Shard, *files: Run, end: Position | None = None) -> None:
        chain = Chain(Names(shard), flush_interval_s=0, flush_bytes=10**6, end=end)
        committer = Files(self.store, Names(shard), SCHEMA, Ledger(self.dead, self.staged))
        for each in files:
            chain.add(each.records, 0.0)
            chain.seal()
            while file := chain.next(0.0):
                chain.written(committer.prepare(file, uuid.uuid4().hex)())

    def audit(self) -> AuditReport:
        return audit(self.store, self.dead)

    def keys(self) -> list[str]:
        return [key for key in sorted(self.store.objects) if SHARD.shard_id in key]


@cache
def written_once() -> Table:
    table = Table(empty=True)
    table.write(SHARD, runs(10, 20), runs(20, 23, dead=True), run(record(23), record(24, dead=True), record(25)))
    table.write(OTHER, runs(11, 14, shard=OTHER))
    return table


def test_a_good_table_has_no_problems() -> None:
    report = Table().audit()
    assert report.problems == []
    assert report.rows == 15 and report.dead_letters == 4 and report.shards == 2
    assert report.reached[NAME] == Position(25, 0)


def drop_a_file(table: Table) -> None:
    del table.store.objects[table.keys()[1]]


def copy_a_file(table: Table) -> None:
    key = table.keys()[0]
    later = key.replace(f"{10:056}", f"{15:056}")
    table.store.objects[later] = table.store.objects[key]


def add_a_stray(table: Table) -> None:
    table.store.objects["_temporary/part-0.parquet"] = (b"", {})


def break_a_file(table: Table) -> None:
    key = table.keys()[0]
    body, metadata = table.store.objects[key]
    table.store.objects[key] = (body[: len(body) // 2], metadata)


def lose_dead_letters(table: Table) -> None:
    table.dead.objects.clear()


def rewritten(
    table: Table,
    place: int = 0,
    change: Callable[[pa.Table], pa.Table] = lambda rows: rows,
    footer: Callable[[dict[str, str]], dict[str, str]] = lambda said: said,
    *,
    objects: bool = True,
    key: str = "",
) -> None:
    """A file changed by an expert: with a valid digest and matching object metadata."""
    key = key or table.keys()[place]
    body, on_object = table.store.objects[key]
    file = change(pq.read_table(pa.BufferReader(body)))
    said = footer({**footer_of(body), SHA256: BLANK})
    said.pop("ARROW:schema", None)
    on_object = {name: said.get(name, "") for name in on_object} if objects else on_object
    table.store.objects[key] = (sealed(encode(file, said)), on_object)


def column(name: str, value: Callable[[Any], Any], *, row: int | None = None) -> Callable[[pa.Table], pa.Table]:
    def change(rows: pa.Table) -> pa.Table:
        values = rows[name].to_pylist()
        values = [value(each) if row in {None, at} else each for at, each in enumerate(values)]
        place = rows.column_names.index(name)
        return rows.set_column(place, rows.schema.field(name), pa.array(values, rows.schema.field(name).type))

    return change


def write_another_records_ids(table: Table) -> None:
    rewritten(table, 0, column("record_id", lambda each: f"{each}0", row=3))


def write_records_again(table: Table) -> None:
    """In a file that is right by itself."""
    beside = Table(empty=True)
    beside.write(SHARD, runs(13, 16))
    table.store.objects.update(beside.store.objects)


def write_rows_twice(table: Table) -> None:
    again = Files(MemoryStore(), Names(SHARD), SCHEMA, None)
    chain = Chain(Names(SHARD), flush_interval_s=0, flush_bytes=10**6, end=Position(25, 0))
    late = runs(26, 28)
    for each in late.records:
        each.sequence = "12"
    chain.add(runs(26, 28).records, 0.0)
    chain.seal()
    file = chain.next(0.0)
    assert file is not None
    for each in file.records:
        each.sequence = "12"
    again.prepare(file, "writer")()
    store = again._store
    assert isinstance(store, MemoryStore)
    table.store.objects.update(store.objects)


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (drop_a_file, "gap"),
        (copy_a_file, "overlap"),
        (copy_a_file, "duplicate"),
        (add_a_stray, "stray"),
        (break_a_file, "unreadable"),
        (lose_dead_letters, "dead-letters"),
        (write_another_records_ids, "identity"),
        (write_records_again, "overlap"),
        (write_records_again, "duplicate"),
        (write_rows_twice, "duplicate"),
        (write_rows_twice, "order"),
    ],
)
def test_damage_is_named(damage: Callable[[Table], None], kind: str) -> None:
    table = Table()
    damage(table)
    assert kind in {problem.kind for problem in table.audit().problems}
