"""Two tables compared: the same records in other files are equal, and every change is found and counted."""

from __future__ import annotations

import io
import random
import uuid
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.diff import windows
from pipeline.diff.tables import Difference, DiffOptions, compare
from pipeline.diff.values import Values
from pipeline.errors import UserError
from pipeline.record import Dead, Enriched, Record, Shard
from pipeline.sinks.chain import Chain
from pipeline.sinks.parquet import Files
from pipeline.stores.memory import MemoryStore
from pipeline.table.footer import footer_of
from pipeline.table.names import Names
from pipeline.table.redriven import RedrivenRows
from pipeline.table.schema import IDENTITY, TableSchema, encode

ROWS = pa.schema([("label", pa.string()), ("score", pa.float32()), ("vector", pa.list_(pa.float32()))])
SCHEMA = TableSchema(ROWS, "events", "m")
DAY_MS = 24 * 60 * 60 * 1000
SHARDS = [Shard("events", 1, f"shardId-{number:012}") for number in range(2)]
Row = dict[str, Any]
Rows = dict[tuple[Shard, int, int], Row | None]
"""Rows by shard, sequence number and sub-sequence number; None: a dead letter."""


def table(rows: Rows, seed: int, schema: TableSchema = SCHEMA) -> MemoryStore:
    """A table written by production's chain, split into files as the seed says."""
    store = MemoryStore()
    dice = random.Random(seed)
    columns = pa.schema(list(schema.schema)[len(IDENTITY) :])
    for shard in SHARDS:
        chain = Chain(Names(shard), flush_interval_s=0, flush_bytes=10**6)
        files = Files(store, Names(shard), schema, None)
        for (of, sequence, sub), row in sorted(rows.items(), key=lambda each: each[0][1:]):
            if of == shard:
                record = Record(shard.shard_id, b"", "key", str(sequence), sub, sequence // 40 * DAY_MS)
                if row is None:
                    record.outcome = Dead(b"payload", "no", "", 1)
                else:
                    record.outcome = Enriched(pa.RecordBatch.from_pylist([row], schema=columns), 0)
                chain.add([record], 0.0)
                if dice.random() < 0.3:
                    chain.seal()
        chain.seal()
        while file := chain.next(0.0):
            chain.written(files.prepare(file, uuid.UUID(int=dice.getrandbits(128)).hex)())
    return store


positions = st.tuples(st.sampled_from(SHARDS), st.integers(1, 120), st.integers(0, 2))
values = st.fixed_dictionaries(
    {
        "label": st.sampled_from([None, "good", "bad"]),
        "score": st.sampled_from([None, 0.0, 0.5, -1.5, float("nan"), float("inf")]),
        "vector": st.sampled_from([None, [], [0.5], [0.5, None, float("nan")], [1.0, 2.0, 3.0]]),
    }
)
tables = st.dictionaries(positions, st.one_of(values, values, values, st.none()), min_size=1, max_size=60)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small windows, so that windows end inside files."""
    monkeypatch.setattr(windows, "MOST_ROWS", 4)


@settings(max_examples=40, deadline=None)
@given(tables, st.integers(0, 9), st.integers(10, 19))
def test_a_table_is_equal_to_itself_in_other_files(rows: Rows, one: int, other: int) -> None:
    found = compare(table(rows, one), table(rows, other))
    good = sum(row is not None for row in rows.values())
    assert found.equal, found
    assert found.matched == found.rows["a"] == found.rows["b"] == good
    assert found.dead == {"a": len(rows) - good, "b": len(rows) - good}


@settings(max_examples=50, deadline=None)
@given(tables, st.data())
def test_every_change_is_found_and_counted(rows: Rows, data: st.DataObject) -> None:
    alive = [place for place, row in rows.items() if row is not None]
    lost = set(data.draw(st.lists(st.sampled_from(alive), unique=True))) if alive else set()
    fresh = data.draw(st.dictionaries(positions.filter(lambda place: place not in rows), values, max_size=5))
    marked = set(data.draw(st.lists(st.sampled_from(alive), unique=True))) - lost if alive else set()
    after: Rows = {place: row for place, row in rows.items() if place not in lost}
    after.update(fresh)
    for place in marked:
        after[place] = {**(after[place] or {}), "label": "another"}
    assume(after)
    found = compare(table(rows, 1), table(after, 2))
    assert (found.missing, found.extra, found.changed) == (len(lost), len(fresh), len(marked))
    assert found.columns["label"].changed == len(marked)
    assert found.columns["score"].changed == found.columns["vector"].changed == 0
    assert found.equal is not bool(lost or fresh or marked)


def ids(*numbers: int, **row: Any) -> Rows:
    return {(SHARDS[0], number, 0): {"label": "a", "score": 0.5, "vector": [0.5, 0.25], **row} for number in numbers}


def only(found: Difference) -> dict[str, int]:
    return {name: column.changed for name, column in found.columns.items() if column.changed}


@pytest.mark.parametrize(
    ("changed", "column"),
    [
        ({"label": None}, "label"),
        ({"score": None}, "score"),
        ({"score": 0.6}, "score"),
        ({"score": float("nan")}, "score"),
        ({"score": float("inf")}, "score"),
        ({"vector": [0.5]}, "vector"),
        ({"vector": [0.5, 0.3]}, "vector"),
        ({"vector": [0.5, None]}, "vector"),
        ({"vector": None}, "vector"),
        ({"vector": []}, "vector"),
    ],
)
def test_a_changed_value_is_reported_with_its_column(changed: Row, column: str) -> None:
    before = ids(1, 2, 3)
    found = compare(table(before, 1), table(before | ids(2, **changed), 2))
    assert only(found) == {column: 1} and found.changed == 1
    [example] = found.examples
    assert (example.kind, example.record_id, example.column) == ("changed", f"events/{SHARDS[0].shard_id}/2/0", column)
    assert example.b == pytest.approx(changed[column], nan_ok=True)


def test_last_bits_are_a_difference_only_on_request() -> None:
    before, after = ids(1, 2), ids(1, 2, score=0.5000001, vector=[0.5, 0.2500001])
    assert compare(table(before, 1), table(after, 2)).equal
    found = compare(table(before, 1), table(after, 2), DiffOptions(tolerance=0))
    assert only(found) == {"score": 2, "vector": 2}
    assert found.columns["score"].largest == pytest.approx(1e-7, rel=0.5)


def test_whole_numbers_have_no_tolerance() -> None:
    big = Values(0.1).differ(pa.array([10**15, 7]), pa.array([10**15 + 1, 7]))
    assert big.tolist() == [True, False]


def test_processed_at_and_model_version_are_compared_only_if_they_are_named() -> None:
    other = TableSchema(ROWS, "events", "m2")
    a, b = table(ids(1), 1), table(ids(1), 1, other)
    assert compare(a, b).equal
    assert only(compare(a, b, DiffOptions(columns=["model_version"]))) == {"model_version": 1}


def test_columns_can_be_left_out_or_selected() -> None:
    a, b = table(ids(1), 1), table(ids(1, label="b"), 1)
    assert compare(a, b, DiffOptions(ignore=["label"])).equal
    assert compare(a, b, DiffOptions(columns=["score"])).equal
    assert not compare(a, b, DiffOptions(columns=["label"])).equal
    with pytest.raises(UserError, match="neither table has a column 'lable'"):
        compare(a, b, DiffOptions(columns=["lable"]))


def test_columns_of_one_table_alone_are_a_difference() -> None:
    fewer = TableSchema(pa.schema([ROWS.field("label")]), "events", "m")
    rows = {place: {"label": row["label"]} for place, row in ids(1, 2).items() if row}
    found = compare(table(ids(1, 2), 1), table(dict(rows), 1, fewer))
    assert found.only_a == ["score", "vector"] and not found.equal and found.changed == 0


def test_types_that_cannot_be_compared_are_reported() -> None:
    other = TableSchema(pa.schema([("label", pa.int64()), ("score", pa.float64())]), "events", "m")
    rows: Rows = {(SHARDS[0], 1, 0): {"label": 1, "score": 0.5}}
    found = compare(table(ids(1), 1), table(rows, 1, other), DiffOptions(columns=["label", "score"]))
    assert found.types == {"label": ("string", "int64")} and not found.equal
    assert found.columns["score"].changed == 0


def test_a_record_that_a_table_has_twice_is_a_difference() -> None:
    a, b = table(ids(1, 2, 3), 1), table(ids(1, 2, 3), 1)
    again = table(ids(2, 3), 1)
    for key, each in again.objects.items():
        b.objects.setdefault(key, each)
    found = compare(a, b)
    assert found.duplicates["b"] > 0 and not found.equal and found.missing == 0


def test_rows_out_of_order_are_refused_with_the_file() -> None:
    a = table(ids(1, 2, 3), 1)
    key, (body, metadata) = next(iter(a.objects.items()))
    file = pq.read_table(io.BytesIO(body))
    a.objects[key] = (encode(file.take([*reversed(range(file.num_rows)), 0]), footer_of(body)), metadata)
    with pytest.raises(UserError, match="rows are not in the order of their places"):
        compare(a, table(ids(1, 2, 3), 1))


def test_a_table_without_files_is_refused() -> None:
    with pytest.raises(UserError, match="table B has no files"):
        compare(table(ids(1), 1), MemoryStore())


@pytest.mark.parametrize(
    ("kind", "a", "b"),
    [
        (pa.struct([("x", pa.float32()), ("y", pa.string())]), {"x": 1.0, "y": "a"}, {"x": 1.0, "y": "b"}),
        (pa.struct([("x", pa.float32())]), {"x": 1.0}, None),
        (pa.list_(pa.float32(), 2), [1.0, 2.0], [1.0, 3.0]),
        (pa.large_list(pa.list_(pa.int8())), [[1], []], [[1], [2]]),
        (pa.map_(pa.string(), pa.int64()), [("a", 1)], [("a", 2)]),
        (pa.binary(), b"a", b"b"),
        (pa.bool_(), True, False),
        (pa.timestamp("ms", "UTC"), 0, 1),
        (pa.decimal128(5, 2), 1, 2),
        (pa.date32(), 1, 2),
        (pa.float16(), 1.0, 2.0),
        (pa.duration("s"), 1, 2),
    ],
    ids=str,
)
def test_values_of_every_type_are_compared(kind: pa.DataType, a: Any, b: Any) -> None:
    left, right = pa.array([a, a, None, None], kind), pa.array([a, b, None, a], kind)
    assert Values(1e-5).differ(left, right).tolist() == [False, True, False, True]
    sliced = Values(1e-5).differ(left.slice(1), right.slice(1))
    assert sliced.tolist() == [True, False, True]


def test_lists_among_nulls_are_compared_row_by_row() -> None:
    a = pa.array([None, [1.0], [1.0, 2.0], [], [3.0]], pa.list_(pa.float32(), -1))
    b = pa.array([None, [1.0], [1.0, 5.0], [0.0], [4.0]], pa.list_(pa.float32(), -1))
    assert Values(0).differ(a, b).tolist() == [False, False, True, True, True]


def test_the_first_values_of_a_shard_that_one_table_does_not_have_at_all() -> None:
    a = ids(1, 2) | {(SHARDS[1], 5, 0): {"label": "a", "score": 0.5, "vector": None}}
    found = compare(table(a, 1), table(ids(1, 2), 2))
    assert (found.missing, found.matched) == (1, 2)
    [missing] = found.examples
    assert missing.kind == "missing" and missing.record_id == f"events/{SHARDS[1].shard_id}/5/0"


def test_redriven_rows_are_compared_as_others() -> None:
    whole = ids(1, 2, 3, 4)
    fewer: Rows = {**whole, (SHARDS[0], 2, 0): None, (SHARDS[0], 3, 0): None}
    b = table(fewer, 1)
    assert (compare(table(whole, 1), b).missing, compare(table(whole, 1), b).dead["b"]) == (2, 2)
    columns = pa.schema(list(SCHEMA.schema)[len(IDENTITY) :])
    batch = pa.RecordBatch.from_pylist([whole[SHARDS[0], 2, 0]], schema=columns)
    for sequence in (3, 2):
        again = Record(SHARDS[0].shard_id, b"", "key", str(sequence), 0, 0, outcome=Enriched(batch, 0))
        RedrivenRows(b, f"dt=1970-01-01/1-{SHARDS[0].shard_id}", SCHEMA).add([again], "r")
    found = compare(table(whole, 1), b)
    assert found.equal and found.matched == 4 and found.dead["b"] == 0
