from __future__ import annotations

import base64
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest

from pipeline.sinks.json_rows import encode


def one(value: Any, kind: Any) -> Any:
    [row] = encode(pa.table({"x": pa.array([value], kind)}))
    return orjson.loads(row)["x"]


MOMENT = datetime(2024, 1, 2, 3, 4, 5, 678000, UTC)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (None, pa.string(), None),
        ("é", pa.string(), "é"),
        (True, pa.bool_(), True),
        (2**63 - 1, pa.int64(), 2**63 - 1),
        (2**64 - 1, pa.uint64(), 2**64 - 1),
        (0.1, pa.float64(), 0.1),
        (0.1, pa.float32(), 0.1),
        (None, pa.float32(), None),
        (float("nan"), pa.float32(), None),
        (float("inf"), pa.float64(), None),
        (b"\x00\xff", pa.binary(), base64.b64encode(b"\x00\xff").decode()),
        (MOMENT, pa.timestamp("ms", "UTC"), "2024-01-02T03:04:05.678000Z"),
        (MOMENT, pa.timestamp("us", "UTC"), "2024-01-02T03:04:05.678000Z"),
        (MOMENT, pa.timestamp("ns", "UTC"), "2024-01-02T03:04:05.678000Z"),
        (MOMENT.replace(tzinfo=None), pa.timestamp("ms"), "2024-01-02T03:04:05.678000Z"),
        (date(2024, 1, 2), pa.date32(), "2024-01-02"),
        (Decimal("1.50"), pa.decimal128(5, 2), "1.50"),
        (timedelta(seconds=1.5), pa.duration("ms"), 1.5),
        (
            {"a": 1, "b": [b"\x01"]},
            pa.struct([("a", pa.int8()), ("b", pa.list_(pa.binary()))]),
            {"a": 1, "b": ["AQ=="]},
        ),
        ([0.1, 0.2], pa.list_(pa.float32()), [0.1, 0.2]),
        ([0.1, 0.2], pa.list_(pa.float32(), 2), [0.1, 0.2]),
        ([0.5, None], pa.list_(pa.float32()), [0.5, None]),
        ([1, 2], pa.list_(pa.int32()), [1, 2]),
    ],
)
def test_a_value_reads_back_as_what_it_was(value: Any, kind: Any, expected: Any) -> None:
    assert one(value, kind) == expected


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float32())])
def test_lists_keep_their_own_lengths(kind: Any) -> None:
    rows = encode(pa.table({"x": pa.array([[], [0.5], [1.5, 2.5], []], kind)}))
    assert [orjson.loads(row)["x"] for row in rows] == [[], [0.5], [1.5, 2.5], []]


def test_a_list_that_is_null_is_null() -> None:
    rows = encode(pa.table({"x": pa.array([[0.5, 1.5], None], pa.list_(pa.float32(), 2))}))
    assert [orjson.loads(row)["x"] for row in rows] == [[0.5, 1.5], None]


def test_slices_and_chunks_are_read_where_they_are() -> None:
    vectors = np.arange(20, dtype=np.float32).reshape(10, 2)
    batch = pa.RecordBatch.from_pydict({"n": range(10), "x": pa.array(list(vectors), pa.list_(pa.float32(), 2))})
    table = pa.Table.from_batches([batch.slice(7, 2), batch.slice(0, 1)])
    assert [orjson.loads(row) for row in encode(table)] == [
        {"n": 7, "x": [14, 15]},
        {"n": 8, "x": [16, 17]},
        {"n": 0, "x": [0, 1]},
    ]


def test_embeddings_are_written_short_and_read_back_the_same() -> None:
    vectors = np.random.default_rng(0).standard_normal((8, 384), np.float32)
    rows = encode(pa.table({"embedding": pa.array(list(vectors), pa.list_(pa.float32(), 384))}))
    assert all(len(row) < 384 * 13 for row in rows)
    assert np.array_equal(np.array([orjson.loads(row)["embedding"] for row in rows], np.float32), vectors)


def test_columns_keep_their_order_and_no_rows_are_no_bytes() -> None:
    assert encode(pa.table({"b": [1], "a": ["x"]})) == [b'{"b":1,"a":"x"}']
    assert encode(pa.table({"b": pa.array([], pa.int64()), "e": pa.array([], pa.list_(pa.float32(), 2))})) == []
