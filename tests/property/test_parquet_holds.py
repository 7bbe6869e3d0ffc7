"""Every row that a replica accepts can be written to Parquet, and is read back unchanged. The tests also meet values
that cannot."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.model.arrow_rows import RowMaker
from pipeline.table import readers
from pipeline.table.schema import TableSchema, encode
from tests.property.column_types import DEEP, FLAT

EXTREMES = [-(2**63), -(2**63) + 1, -(2**53), -(2**31), -86_401, -1, 0, 1, 86_400, 2**31 - 1, 2**53, 2**63 - 1]
SPECIMENS = [True, -1, 127, 7.5, math.nan, math.inf, 1e300, "", "ü\0", b"ab", [1], {"a": 1}, [None], None]


@cache
def is_taken(kind: pa.DataType) -> bool:
    """Whether a table may have a column of the type."""
    try:
        TableSchema(pa.schema([("x", kind)]), "events", "1")
    except ConfigError:
        return False
    return True


TIMES = [kind for kind in FLAT if pa.types.is_temporal(kind)]


def expect_back(batch: pa.RecordBatch) -> None:
    """Read by pyarrow exactly; by pandas, with its own library, without an error."""
    file = encode(pa.Table.from_batches([batch]), {})
    back = pq.read_table(pa.BufferReader(file)).cast(batch.schema)
    if not any("pandas cannot" in line for line in readers.warnings(batch.schema)):
        back.to_pandas()
    assert _values(back.column("x").combine_chunks()) == _values(batch.column("x"))


def _values(column: pa.Array) -> Any:
    """NaN equals itself here. Python has no nanoseconds at the ends of its range, so times are compared as counts."""
    if pa.types.is_timestamp(column.type):
        column = column.view(pa.int64())
    return _plain(column.to_pylist())


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return "NaN" if isinstance(value, float | np.floating) and math.isnan(value) else value


def test_most_types_are_taken() -> None:
    assert sum(map(is_taken, DEEP)) >= 100
    assert sum(map(is_taken, TIMES)) >= 25


@pytest.mark.parametrize("kind", DEEP, ids=str)
def test_accepted_nested_values_are_read_back(kind: pa.DataType) -> None:
    if not is_taken(kind):
        return
    values = [*SPECIMENS, *([each] for each in SPECIMENS)]
    made = RowMaker(pa.schema([("x", kind)]), {}).make([[] for _ in values], [{"x": value} for value in values])
    expect_back(made.batch)
    assert len(made.batch) + len(made.faults) == len(values) and len(made.batch) > 1


def raw(counts: list[int], kind: pa.DataType) -> pa.Array:
    """Counts as a column stores them, including some that are not values in Python."""
    width = kind.bit_width
    held = np.array([count if width == 64 else count % 2**32 - 2**31 for count in counts], f"i{width // 8}")
    return pa.Array.from_buffers(kind, len(held), [None, pa.py_buffer(held)])


@pytest.mark.parametrize("kind", TIMES, ids=str)
def test_an_arrow_array_of_extreme_times_is_read_back_or_refused(kind: pa.DataType) -> None:
    """Arrow does not check ranges: seconds may overflow when Parquet stores milliseconds, and years may be out of
    range."""
    if not is_taken(kind):
        return
    rows = RowMaker(pa.schema([("x", kind)]), {})
    for count in EXTREMES:
        made = rows.make([[]], {"x": raw([count], kind)})
        expect_back(made.batch)
        assert made.batch.num_rows + len(made.faults) == 1
    made = rows.make([[] for _ in EXTREMES], {"x": raw(EXTREMES, kind)})
    expect_back(made.batch)
    assert made.batch.num_rows and len(made.faults) + made.batch.num_rows == len(EXTREMES)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from([kind for kind in TIMES if getattr(kind, "unit", "") != "ns"]).filter(is_taken),
    counts=st.lists(st.sampled_from(EXTREMES) | st.integers(-(2**63), 2**63 - 1), max_size=4),
    shape=st.sampled_from(["list", "struct", "fixed", "map"]),
)
def test_extreme_times_at_depth_are_read_back_or_refused(kind: pa.DataType, counts: list[int], shape: str) -> None:
    times = raw(counts, kind)
    ends = pa.array(range(len(counts) + 1), pa.int32())
    made: dict[str, pa.Array] = {
        "list": pa.ListArray.from_arrays(ends, times),
        "struct": pa.StructArray.from_arrays([times], ["a"]),
        "fixed": pa.FixedSizeListArray.from_arrays(times, 1),
        "map": pa.MapArray.from_arrays(ends, pa.array(map(str, counts), pa.string()), times),
    }
    column = made[shape]
    result = RowMaker(pa.schema([("x", column.type)]), {}).make([[] for _ in counts], {"x": column})
    expect_back(result.batch)
    assert result.batch.num_rows + len(result.faults) == len(counts)
