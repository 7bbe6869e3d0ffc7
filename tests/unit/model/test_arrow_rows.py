"""Results of predict as Arrow rows, and which of them are refused."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest

from pipeline.model import Reject
from pipeline.model.arrow_columns import AS_THEY_ARE, Rules
from pipeline.model.arrow_rows import Made, RowMaker

NAN = float("nan")


def made(schema: pa.Schema, results: Sequence[Any], rules: Rules = AS_THEY_ARE) -> Made:
    return RowMaker(schema, {}, rules).make([[] for _ in results], results)


def one_column(kind: pa.DataType, *values: Any, nullable: bool = True, rules: Rules = AS_THEY_ARE) -> Made:
    return made(pa.schema([pa.field("x", kind, nullable=nullable)]), [{"x": value} for value in values], rules)


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        (pa.int32(), np.int64(7), 7),
        (pa.float32(), np.float64(0.5), 0.5),
        (pa.float32(), np.array(0.5), 0.5),
        (pa.int64(), 7.0, 7),
        (pa.list_(pa.int64()), np.array([7.0]), [7]),
        (pa.struct([("a", pa.int64()), ("b", pa.float64())]), {"b": 0.5}, {"a": None, "b": 0.5}),
        (pa.float64(), 3, 3.0),
        (pa.list_(pa.float32()), [0.5, 2**24 + 2, 1e30, None], [0.5, 2**24 + 2, float(np.float32(1e30)), None]),
        (pa.string(), None, None),
        (pa.string(), np.str_("a"), "a"),
        (pa.list_(pa.float32()), np.array([1.0, 2.0]), [1.0, 2.0]),
        (pa.list_(pa.float32()), (1, 2), [1.0, 2.0]),
        (pa.list_(pa.float32(), 2), np.array([1.0, 2.0]), [1.0, 2.0]),
        (pa.list_(pa.float32(), 2), [1.0, 2.0], [1.0, 2.0]),
        (pa.list_(pa.list_(pa.int64())), np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (pa.struct([("a", pa.int64())]), {"a": np.int64(1)}, {"a": 1}),
        (pa.struct([("a", pa.list_(pa.int64()))]), {"a": np.array([[1]])[0]}, {"a": [1]}),
        (pa.dictionary(pa.int32(), pa.string()), "a", "a"),
        (pa.timestamp("us", tz="UTC"), datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)),
    ],
)
def test_values_as_models_have_them_become_columns(kind: pa.DataType, value: Any, read: Any) -> None:
    result = one_column(kind, value, value)
    assert not result.faults
    assert result.batch.column("x").to_pylist() == [read, read]


def test_a_tensor_is_a_list() -> None:
    torch = pytest.importorskip("torch")
    result = one_column(pa.list_(pa.float32()), torch.tensor([1.0, 2.0]), torch.tensor([3.0]))
    assert result.batch.column("x").to_pylist() == [[1.0, 2.0], [3.0]]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.int32(), "7"),
        (pa.int32(), 7.5),
        (pa.int32(), np.float32(7.5)),
        (pa.int64(), Decimal("7.5")),
        (pa.list_(pa.int64()), [1, 7.5]),
        (pa.list_(pa.int64()), np.array([7.5])),
        (pa.list_(pa.list_(pa.int64())), [[1], [7.5]]),
        (pa.struct([("a", pa.int64())]), {"a": 7.5}),
        (pa.timestamp("us"), 7.5),
        (pa.int8(), 300),
        (pa.string(), 7),
        (pa.string(), "\ud800"),
        (pa.list_(pa.float32(), 2), np.array([1.0])),
        (pa.list_(pa.float32(), 2), [1.0, 2.0, 3.0]),
        (pa.list_(pa.float32()), "ab"),
        (pa.bool_(), "yes"),
        (pa.list_(pa.float32()), [0.5, 2**24 + 1]),
        (pa.list_(pa.float64()), [0.5, 2**53 + 1]),
        (pa.list_(pa.float32()), [0.5, 1e300]),
        (pa.list_(pa.float64()), [0.5, np.longdouble("1e400")]),
    ],
)
def test_a_value_of_another_type_costs_its_record_alone(kind: pa.DataType, value: Any) -> None:
    result = one_column(kind, None, value, None)
    assert len(result.batch) == 2
    assert list(result.faults) == [1]
    assert result.faults[1].kind == "contract"
    assert result.faults[1].reason.startswith(f"column 'x' is not {kind}: ")


def test_null_is_refused_where_the_schema_does() -> None:
    result = one_column(pa.int64(), 1, None, nullable=False)
    assert list(result.faults) == [1]
    assert "null" in result.faults[1].reason


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (pa.float64(), 1.0, math.inf),
        (pa.float32(), 1.0, -math.inf),
        (pa.float16(), np.float16(1), np.float16("nan")),
        (pa.list_(pa.float32()), [1.0], [1.0, NAN]),
        (pa.list_(pa.float32()), [], np.array([NAN])),
        (pa.large_list(pa.float32()), [], [NAN]),
        (pa.list_(pa.float32(), 2), np.array([1.0, 2.0]), np.array([1.0, NAN])),
        (pa.list_(pa.list_(pa.float32(), 2)), [[1.0, 2.0]], [[1.0, 2.0], [3.0, NAN]]),
        (pa.struct([("a", pa.float32())]), {"a": 1.0}, {"a": NAN}),
        (pa.map_(pa.string(), pa.float64()), [("a", 1.0)], [("a", 1.0), ("b", NAN)]),
    ],
)
def test_nan_and_infinity_are_found_at_any_depth(kind: pa.DataType, good: Any, bad: Any) -> None:
    values = [good, None, bad, None, good, bad, good]
    result = one_column(kind, *values, rules=Rules("null", "reject"))
    assert list(result.faults) == [2, 5]
    assert {fault.kind for fault in result.faults.values()} == {"not_finite"}
    assert {fault.reason for fault in result.faults.values()} == {"column 'x' is not finite"}
    assert len(result.batch) == 5
    assert not one_column(kind, good, None, good, rules=Rules("null", "reject")).faults
    [kept] = one_column(kind, bad).batch.column("x").to_pylist()
    assert "nan" in str(kept) or "inf" in str(kept)
    [nulled] = one_column(kind, bad, rules=Rules("null", "null")).batch.column("x").to_pylist()
    assert "nan" not in str(nulled) and "inf" not in str(nulled) and "None" in str(nulled)


def test_no_results_make_no_rows() -> None:
    result = made(pa.schema([("x", pa.float64())]), [])
    assert (len(result.batch), result.faults) == (0, {})


def test_if_all_are_refused_there_are_no_rows() -> None:
    result = made(pa.schema([("x", pa.list_(pa.float64()))]), [Reject("no"), None, {}, {"x": 1}])
    assert len(result.batch) == 0
    assert [result.faults[index].reason for index in range(3)] == [
        "no",
        'predict returned None for this record; to refuse it, return Reject("why") in its place',
        "predict's result for this record: there is no column 'x'",
    ]
    assert result.faults[3].reason.startswith("column 'x' is not list<item: double>: ")


def test_faults_and_rows_keep_their_places() -> None:
    values = [0, "bad", 2, NAN, 4, None]
    result = one_column(pa.float64(), *values)
    assert sorted(result.faults) == [1]
    assert result.batch.column("x").to_pylist() == [0.0, 2.0, pytest.approx(NAN, nan_ok=True), 4.0, None]


def passthrough(kind: str, payload: Mapping[str, Any]) -> Any:
    rows = RowMaker(pa.schema([("y", pa.int64())]), {"x": kind})
    row = rows.passthrough(payload, orjson.dumps(payload), reads_json=True)
    return rows.make([row], [{"y": 1}]).batch.column("x")[0].as_py()


NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        ("string", "ü", "ü"),
        ("string", 7, "7"),
        ("string", {"a": [1]}, '{"a":[1]}'),
        ("int64", 7.0, 7),
        ("int64", -(2**63), -(2**63)),
        ("float64", 7, 7.0),
        ("bool", False, False),
        ("timestamp", "2026-01-02T12:00:00Z", NOON),
        ("timestamp", "2026-01-02T14:00:00+02:00", NOON),
        ("timestamp", "2026-01-02 12:00", NOON),
        ("timestamp[ms]", int(NOON.timestamp() * 1000), NOON),
        ("timestamp", None, None),
    ],
)
def test_carried_fields_are_read_as_their_type(kind: str, value: Any, read: Any) -> None:
    assert passthrough(kind, {"x": value}) == read


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int64", "7"),
        ("int64", 7.5),
        ("int64", True),
        ("int64", 2**63),
        ("float64", "7"),
        ("bool", 1),
        ("timestamp", "noon"),
        ("timestamp", "0001-01-01T00:00:00+23:59"),
        ("timestamp", "9999-12-31T23:59:59-00:01"),
        ("timestamp[ms]", 1e30),
        ("timestamp", True),
        ("timestamp", []),
    ],
)
def test_a_carried_field_of_another_type_is_refused(kind: str, value: Any) -> None:
    came = "number" if value == 1e30 else type(value).__name__
    with pytest.raises(Reject, match=f"passthrough field 'x' is a {came} that is not a valid {re.escape(kind)}"):
        passthrough(kind, {"x": value})


@pytest.mark.parametrize(
    ("item", "payload", "read"),
    [
        ({"x": "item"}, b'{"x": "payload"}', "item"),
        ({"z": 1}, b'{"x": "payload"}', "payload"),
        (b"image", b'{"x": "payload"}', "payload"),
        (b"image", b"\xff\xd8", None),
        (b"image", b"[1]", None),
    ],
)
def test_a_model_that_decodes_by_itself_carries_from_its_item_or_the_payload(
    item: Any, payload: bytes, read: str | None
) -> None:
    rows = RowMaker(pa.schema([("y", pa.int64())]), {"x": "string"})
    assert rows.passthrough(item, payload, reads_json=False) == [read]
