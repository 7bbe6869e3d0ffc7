"""Output and memory are linear in the input: a producer cannot make gigabytes from a few kilobytes."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from consumer.testing.aggregates import aggregate
from pipeline.aggregate import Aggregate, aggregate_or_record
from pipeline.record import Dead, Enriched, Record, Run, settled_weight
from pipeline.sinks.chain import Chain
from pipeline.sinks.kinesis_rows import loads_of, size_of
from pipeline.sinks.parquet import Files
from pipeline.stores.memory import MemoryStore
from pipeline.table.audit import audit
from pipeline.table.names import Names
from pipeline.table.staged_letters import Ledger
from tests.support.settled_records import MORNING_MS, SCHEMA, SHARD, rows

TIMES, EACH = 4, 4_000
"""Bytes written per byte read and per user record: a dead letter is staged and written, with at most 1 KiB besides its
payload."""

KEYS = st.lists(st.tuples(st.sampled_from("ké\\\0\U0001f600"), st.integers(0, 60_000)), min_size=1, max_size=20)
"""A character, and how often it is repeated."""


def taken(data: bytes) -> list[Record]:
    held = aggregate_or_record(Record(SHARD.shard_id, data, "own", "7", 0, MORNING_MS))
    assert isinstance(held, Aggregate)
    found = []
    while held.left:
        found += held.take(2_000, 1 << 20)
    return found


def settled(records: list[Record], share_dead: int) -> list[Record]:
    table = rows([1])
    for place, record in enumerate(records):
        dead = Dead(record.data, "refused", "", 1)
        record.outcome = record.outcome or (dead if place % 100 < share_dead else Enriched(table, 0))
    return records


@settings(max_examples=20)
@given(KEYS, st.integers(1, 300), st.binary(max_size=50), st.integers(0, 100))
@example([("K", 300_000)], 800, b"", 100)
@example([("K", 300_000)], 800, b"", 0)
@example([("\U0001f600", 75_000), ("L", 200_000)], 800, b"", 50)
def test_bytes_written_are_linear_in_bytes_read(
    keys: list[tuple[str, int]], count: int, payload: bytes, share_dead: int
) -> None:
    read = aggregate([payload] * count, [character * times for character, times in keys])
    records = settled(taken(read), share_dead)
    most = TIMES * len(read) + EACH * len(records) + 20_000
    assert settled_weight(records) <= most
    rest = Run(SHARD, records, [payload] * count)
    assert (
        size_of(rest)
        + sum(
            len(load.row[0]) + len(load.row[1])
            for load in loads_of(rest, _table, 1 << 20)
            if load.row and isinstance(load.row, tuple)
        )
        <= most
    )
    table, ledger = MemoryStore(), Ledger(final := MemoryStore(), staged := MemoryStore())
    chain, files = (
        Chain(Names(SHARD), flush_interval_s=0, flush_bytes=1 << 20),
        Files(table, Names(SHARD), SCHEMA, ledger),
    )
    chain.add(records, 0.0)
    chain.seal()
    while file := chain.next(0.0):
        assert SCHEMA.table(file.records).nbytes <= most
        chain.written(files.prepare(file, f"writer-{file.key[-18:-8]}")())
    written = sum(len(body) for store in (table, final, staged) for body, _ in store.objects.values())
    assert written <= most
    report = audit(table, final)
    assert report.problems == [] and report.rows + report.dead_letters == count


def _table(run: Run):  # type: ignore[no-untyped-def]  # pyarrow ships no types
    return SCHEMA.table(run.records)
