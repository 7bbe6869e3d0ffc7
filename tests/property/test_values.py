"""Every kind of value in every type of column: the stored value has the same meaning, or the record is refused with a
reason."""

from __future__ import annotations

import datetime as dt
import math
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model.arrow_rows import RowMaker
from tests.property.column_types import BERLIN, DEEP, FLAT, UNITS, nests
from tests.property.oracle import Unknown, meaning, same

MEANT_NOTHING = object()
WITH_LEAVES = {*FLAT, *nests(pa.string())}


@cache
def maker(kind: pa.DataType) -> RowMaker:
    return RowMaker(pa.schema([("x", kind)]), {})


def meant(value: Any) -> Any:
    try:
        return meaning(value)
    except (Unknown, ValueError, TypeError, ArithmeticError, RuntimeError):
        return MEANT_NOTHING


def judge(kind: pa.DataType, values: list[Any], meanings: list[Any]) -> int:
    """Check that each value is stored with its meaning or refused with a reason of one line. Return how many are
    stored."""
    made = maker(kind).make([[] for _ in values], [{"x": value} for value in values])
    made.batch.validate(full=True)
    rows = iter(meaning(made.batch.column("x")))
    name = maker(kind).kept.field("x").type
    for place, (value, each) in enumerate(zip(values, meanings, strict=True)):
        if place in made.faults:
            reason = made.faults[place].reason
            assert reason.startswith(f"column 'x' is not {name}: ") and "\n" not in reason and len(reason) < 500
            continue
        stored = next(rows)
        assert each is not MEANT_NOTHING and same(each, stored, kind), f"{value!r} in {kind}: stored as {stored}"
    assert next(rows, None) is None
    return len(made.batch)


@cache
def specimens() -> tuple[list[tuple[Any, Any]], list[tuple[Any, Any]]]:
    """Leaves and nested values, each with its meaning. They need torch, which is not imported when tests are only
    collected.
    """
    from tests.property.specimens import LEAVES, NESTED

    return [(value, meant(value)) for value in LEAVES], [(value, meant(value)) for value in NESTED]


def tensor(values: list[int]) -> Any:
    import torch

    return torch.tensor(values, dtype=torch.int64)


@pytest.mark.parametrize("kind", [*FLAT, *DEEP], ids=str)
def test_each_value_is_stored_as_it_is_meant_or_refused(kind: pa.DataType) -> None:
    """Store each value alone, and together with others.

    Nested columns refuse nearly all leaves: these are alone only in one column of each shape.
    """
    leaves, nested = specimens()
    alone = [*leaves, *nested] if kind in WITH_LEAVES else nested
    stored = sum(judge(kind, [value], [each]) for value, each in alone)
    everything = judge(kind, *map(list, zip(*leaves, *nested, strict=True)))
    assert everything > 10
    assert everything == stored + (0 if kind in WITH_LEAVES else judge(kind, *map(list, zip(*leaves, strict=True))))


NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.booleans(),
    st.decimals(allow_nan=None),
    st.floats(width=32).map(np.float32),
    st.integers(-(2**63), 2**63 - 1).map(np.int64),
    st.integers(0, 2**64 - 1).map(np.uint64),
)
TIMES = st.one_of(
    st.datetimes(),
    st.datetimes(timezones=st.sampled_from([dt.UTC, BERLIN, dt.timezone(dt.timedelta(minutes=-754))])),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.builds(np.datetime64, st.integers(-(2**63) + 1, 2**63 - 1), st.sampled_from([*UNITS, "ps", "as"])),
    st.builds(np.timedelta64, st.integers(-(2**63) + 1, 2**63 - 1), st.sampled_from([*UNITS, "W", "h"])),
    st.datetimes(pd.Timestamp.min.to_pydatetime(warn=False), pd.Timestamp.max.to_pydatetime(warn=False)).map(
        pd.Timestamp
    ),
    st.builds(pd.Timestamp, st.integers(-(2**63) + 1, 2**63 - 1)),
)
MISSING = st.sampled_from([None, pd.NA, pd.NaT, math.nan, np.datetime64("NaT"), np.ma.masked, pa.scalar(None)])
ANY_LEAF = st.one_of(NUMBERS, TIMES, MISSING, st.text(max_size=4), st.binary(max_size=4))
ANY = st.recursive(
    ANY_LEAF,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from(["a", "b", "k"]), inner, max_size=3),
        st.lists(st.floats(width=32), max_size=3).map(lambda given: np.array(given, np.float32)),
        st.lists(st.integers(-(2**31), 2**31), max_size=3).map(tensor),
        st.lists(st.integers(-(2**31), 2**31), max_size=3).map(pa.array),
    ),
    max_leaves=6,
)
KINDS = st.recursive(
    st.sampled_from(FLAT),
    lambda inner: st.one_of(
        inner.map(pa.list_),
        inner.map(lambda kind: pa.list_(kind, 2)),
        st.tuples(inner, inner).map(lambda two: pa.struct([("a", two[0]), ("b", two[1])])),
        inner.map(lambda kind: pa.map_(pa.string(), kind)),
    ),
    max_leaves=4,
)


@settings(max_examples=400, deadline=None)
@given(kind=KINDS, values=st.lists(ANY, min_size=1, max_size=5))
def test_any_values_of_any_type_are_stored_as_they_are_meant_or_refused(kind: pa.DataType, values: list[Any]) -> None:
    judge(kind, values, [meant(value) for value in values])


@settings(max_examples=400, deadline=None)
@given(kind=st.sampled_from(FLAT), values=st.one_of(st.lists(NUMBERS, max_size=5), st.lists(TIMES, max_size=5)))
def test_any_numbers_and_times_are_stored_as_they_are_meant_or_refused(kind: pa.DataType, values: list[Any]) -> None:
    judge(kind, values, [meant(value) for value in values])
