"""The auditor passes a good table, and names what is wrong with a bad one."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.record import Position, Run, Shard
from pipeline.sinks.audit import Report, audit
from pipeline.sinks.chain import DEAD_LETTERS, Chain, Names
from pipeline.sinks.parquet import Files
from pipeline.sinks.schema import encode
from pipeline.sinks.store import MemoryStore
from tests.settled import SCHEMA, SHARD, record, run, runs

OTHER = Shard("events", SHARD.stream_created_s, "shardId-000000000001")
NAME = f"{SHARD.stream_created_s}-{SHARD.shard_id}"


class Table:
    """Two shards, written by the code that writes tables."""

    def __init__(self) -> None:
        self.store, self.dead = MemoryStore(), MemoryStore()
        self.write(SHARD, runs(10, 20), runs(20, 23, dead=True), run(record(23), record(24, dead=True), record(25)))
        self.write(OTHER, runs(11, 14, shard=OTHER))

    def write(self, shard: Shard, *files: Run) -> None:
        chain = Chain(Names(shard, 1), flush_interval_s=0, flush_bytes=10**6)
        committer = Files(self.store, Names(shard, 1), SCHEMA, self.dead)
        for each in files:
            chain.add(each.records, 0.0)
            chain.seal()
            while file := chain.next(0.0):
                chain.written(committer.prepare(file, "writer")())

    def audit(self) -> Report:
        return audit(self.store, 1, self.dead)

    def keys(self) -> list[str]:
        return [key for key in sorted(self.store.objects) if SHARD.shard_id in key]


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
    table.store.objects["v=1/_temporary/part-0.parquet"] = (b"", {})


def break_a_file(table: Table) -> None:
    key = table.keys()[0]
    body, metadata = table.store.objects[key]
    table.store.objects[key] = (body[: len(body) // 2], metadata)


def lose_dead_letters(table: Table) -> None:
    table.dead.objects.clear()


def write_letters_that_are_no_json(table: Table) -> None:
    key = table.keys()[1]
    body, metadata = table.store.objects[key]
    file = pq.read_table(pa.BufferReader(body))
    footer = {**file.schema.metadata, DEAD_LETTERS.encode(): b"{"}
    table.store.objects[key] = (encode(file, {name.decode(): text.decode() for name, text in footer.items()}), metadata)


def write_another_records_ids(table: Table) -> None:
    key = table.keys()[0]
    body, metadata = table.store.objects[key]
    file = pq.read_table(pa.BufferReader(body))
    ids = [f"{each}0" if place == 3 else each for place, each in enumerate(file["record_id"].to_pylist())]
    file = file.set_column(0, "record_id", pa.array(ids, pa.string()))
    footer = {name.decode(): text.decode() for name, text in file.schema.metadata.items()}
    table.store.objects[key] = (encode(file, footer), metadata)


def write_rows_twice(table: Table) -> None:
    again = Files(MemoryStore(), Names(SHARD, 1), SCHEMA, None)
    chain = Chain(Names(SHARD, 1), flush_interval_s=0, flush_bytes=10**6, end=Position(25, 0))
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
        (write_letters_that_are_no_json, "unreadable"),
        (write_another_records_ids, "identity"),
        (write_rows_twice, "duplicate"),
        (write_rows_twice, "order"),
    ],
)
def test_damage_is_named(damage: Callable[[Table], None], kind: str) -> None:
    table = Table()
    damage(table)
    assert kind in {problem.kind for problem in table.audit().problems}
