"""Values of every kind that a model may return."""

# ruff: noqa: DTZ001  # times without a zone are what is tried

from __future__ import annotations

import array
import collections
import datetime as dt
import enum
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from tests.property.column_types import BERLIN, UNITS

dt64: Any = np.datetime64
td64: Any = np.timedelta64
masked: Any = np.ma.array
NOON = dt.datetime(2026, 1, 2, 12, 30, 15, 123456)


class Colour(enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    SEVEN = 7


class Word(enum.StrEnum):
    A = "a"


class Point(NamedTuple):
    a: int
    b: float


@dataclass
class Pair:
    a: int
    b: float


LEAVES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        7,
        -1,
        127,
        128,
        255,
        256,
        2049,
        2**24 + 1,
        2**31,
        2**53 + 1,
        2**63 - 1,
        2**63,
        2**64,
        -(2**63),
    ),
    *(1767225600, 1767225600000, 10**400),
    *(0.0, -0.0, 0.5, 7.0, 7.5, 0.1, 1e300, 1e-300, 70000.0, -1e39, math.nan, math.inf, -math.inf, 2.0**53, 1e19),
    *(
        "",
        "a",
        "7",
        "ü\0",
        "\ud800",
        "2026-01-01",
        "nan",
        b"",
        b"a",
        b"\xff",
        b"ab\0",
        bytearray(b"ab"),
        memoryview(b"ab"),
    ),
    *(
        Decimal("1.5"),
        Decimal(7),
        Decimal("1.2345678901"),
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        Decimal("1e50"),
    ),
    *(NOON, NOON.replace(tzinfo=dt.UTC), NOON.replace(microsecond=0), NOON.replace(tzinfo=BERLIN), NOON.date()),
    *(
        dt.datetime(1, 1, 1),
        dt.datetime(9999, 12, 31, 23, 59, 59, 999999),
        dt.datetime(1969, 12, 31, 23, 59, 59, 999999),
    ),
    dt.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
    dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=14))),
    *(dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.date(2024, 2, 29), dt.datetime(2026, 1, 2)),
    *(dt.time(1, 2, 3, 4), dt.time(1, 2, 3), dt.time(23, 59, 59, 999999), dt.time(1, tzinfo=dt.UTC)),
    *(dt.timedelta(microseconds=-1), dt.timedelta(days=3), dt.timedelta.max, dt.timedelta.min),
    *(
        np.bool_(True),
        np.int8(7),
        np.uint64(2**64 - 1),
        np.int64(2**53 + 1),
        np.float16(0.1),
        np.float32(0.1),
        np.float64(0.1),
    ),
    *(
        np.float32("nan"),
        np.float64(1e300),
        np.longdouble(0.5),
        np.complex64(1),
        np.str_("a"),
        np.bytes_(b"a\0"),
        np.array(7),
        np.array("a"),
    ),
    *(dt64("NaT"), td64("NaT"), dt64("2026-01-02T12:30:15.123456789"), dt64("2026-01", "M")),
    *(dt64(1767225600, unit) for unit in UNITS),
    *(dt64(1767225600 * 10**9, "ns"), dt64(-1, "ns"), dt64(5, "D"), dt64(5, "W"), dt64(2**62, "s")),
    *(dt64(3, "h"), dt64(7, "25s"), dt64(10**6, "ps"), dt64(2026 - 1970, "Y")),
    *(td64(1_500_000_000, "ns"), td64(5, "ns"), td64(5, "s"), td64(5, "D"), td64(5, "M"), td64(5)),
    *(np.array(5, "datetime64[s]"), np.void(b"ab"), np.ma.masked),
    *(pd.NA, pd.NaT, pd.Timestamp(NOON), pd.Timestamp("2026-01-02T12:30:15.123456789"), pd.Timestamp(NOON, tz=BERLIN)),
    *(
        pd.Timestamp("2026-01-01"),
        pd.Timedelta(5, "ns"),
        pd.Timedelta(5, "s"),
        pd.Period("2026-01", "M"),
        pd.Interval(1, 2),
    ),
    *(Number.SEVEN, Word.A, Colour.RED, 1 + 2j, object(), int, range(3), iter([1]), {1, 2}, NotImplemented, ...),
    *(
        torch.tensor(7),
        torch.tensor(0.1),
        torch.tensor(True),
        torch.tensor(0.1, dtype=torch.bfloat16, requires_grad=True),
    ),
    *(
        torch.tensor(1j),
        pa.scalar(7),
        pa.scalar(7.5),
        pa.scalar("a"),
        pa.scalar("7"),
        pa.scalar(b"\xff"),
        pa.scalar(True),
        pa.scalar(None),
    ),
    *(
        pa.scalar(None, pa.int64()),
        pa.scalar(1, pa.time64("ns")),
        pa.scalar(5, pa.date32()),
        pa.scalar(86_400_000, pa.date64()),
    ),
    *(pa.scalar(1767225600, pa.timestamp(unit, zone)) for unit in UNITS for zone in (None, "UTC", "Europe/Berlin")),
    *(
        pa.scalar(5 * 10**9, pa.duration("ns")),
        pa.scalar(5, pa.duration("s")),
        pa.scalar(Decimal("1.50"), pa.decimal128(9, 2)),
    ),
    pa.array(["a", "b"]).dictionary_encode()[0],
    pa.scalar("a", pa.string_view()),
]

NESTED: list[Any] = [
    *(
        [],
        [1, 2],
        [1, None],
        (1.5, math.nan),
        [[1], [2, 3]],
        [[1, 2], [3, 4]],
        ["a", None],
        [b"a"],
        [True],
        [7.5],
        [NOON],
        [{"a": 1}],
    ),
    *(
        np.array([1, 2]),
        np.array([1.5, np.nan]),
        np.array([], float),
        np.array([[1, 2], [3, 4]]),
        np.array([1, 2], ">i4"),
        np.zeros((2, 0)),
    ),
    *(
        np.array([1, "a", None], object),
        np.array(["a", "bc"]),
        np.array([b"a"]),
        np.array([True, False]),
        np.array([2**63], np.uint64),
    ),
    *(
        np.array(["2026-01-01T00:00:00.5", "NaT"], "datetime64[ns]"),
        np.array([1, 2], "timedelta64[ms]"),
        np.array([1, 2], "datetime64[h]"),
    ),
    *(masked([1, 2], mask=[0, 1]), masked([1.5, 2.5]), masked([[1, 2], [3, 4]], mask=[[0, 1], [0, 0]])),
    *(
        np.array([0.1], np.float16),
        np.array([1j]),
        np.array([0.5], np.longdouble),
        np.array([(1, 2.5)], [("a", "i4"), ("b", "f8")]),
    ),
    *(np.array([(1, 2.5)], [("a", "i4"), ("b", "f8")])[0], np.arange(6)[::2], np.array([300, -1])),
    *(torch.tensor([1, 2]), torch.tensor([[1.5, 2.5]], requires_grad=True), torch.tensor([0.1], dtype=torch.bfloat16)),
    *(
        torch.tensor([0.1], dtype=torch.float16),
        torch.tensor([1, 2]).to_sparse(),
        torch.tensor([1j]).conj(),
        torch.zeros(0),
    ),
    *(
        pd.Series([1, None], dtype="Int64"),
        pd.Series([1.5, np.nan]),
        pd.Series(["a", None]),
        pd.Series([NOON]),
        pd.Series([NOON], dtype="datetime64[ns]"),
    ),
    *(
        pd.Series(["a", "b"], dtype="category"),
        pd.Series([1, "a"], dtype=object),
        pd.Index([1, 2]),
        pd.Categorical([1, 2]),
    ),
    *(
        pd.Series([pd.Timestamp(NOON, tz=BERLIN)]),
        pd.Series([pd.Timedelta(5, "ns")]),
        pd.Series([True, None], dtype="boolean"),
    ),
    *(
        pd.Series({"a": 1, "b": 2.5}),
        pd.array([1, 2]),
        pd.period_range("2026", periods=2, freq="M"),
        pd.Series([1.5, None], dtype="Float64"),
    ),
    *(
        pa.array([1, None]),
        pa.array([1.5]),
        pa.array(["a"]),
        pa.chunked_array([[1], [2]]),
        pa.array([[1], None]),
        pa.scalar([1, 2]),
        pa.nulls(2),
    ),
    *(
        pa.scalar({"a": 1, "b": 2.5}),
        pa.scalar([("k", 1)], pa.map_(pa.string(), pa.int64())),
        pa.array([{"a": 1}]),
        pa.scalar([[1], None]),
    ),
    *(
        pa.array([1767225600], pa.timestamp("s")),
        pa.array([5], pa.duration("ns")),
        pa.array(["a", "a"]).dictionary_encode(),
        pa.array([5], pa.time64("ns")),
    ),
    *(
        {},
        {"a": 1},
        {"a": 1, "b": None},
        {"b": 2.5, "a": 1},
        {"a": 7.5},
        {"a": 1, "z": 2},
        {"k": 1, "l": None},
        {"k": [1, 2]},
        {1: 2},
        {None: 1},
    ),
    *(
        {b"k": 1, "k": 2},
        [("k", 1)],
        [("k", 1), ("k", 2)],
        [("k", 1, 2)],
        {"a": {"a": 1}},
        {"a": [1, 2]},
        {"a": np.int8(1), "b": np.float32(0.1)},
    ),
    *(
        Point(1, 2.5),
        Pair(1, 2.5),
        collections.OrderedDict(a=1),
        collections.deque([1, 2]),
        array.array("i", [1, 2]),
        {"a": 1}.items(),
    ),
    *(
        [1, "a"],
        [np.array([1]), [2]],
        [np.array([1, 2]), np.array([1.5, 2.5])],
        [pa.scalar(1), None],
        [pd.NA, 1],
        [dt64("NaT"), NOON],
    ),
    *([(1, 2)], [None], ["\ud800"], {"a": math.nan}, [[math.nan]], [[[1]]], "ab", frozenset({1})),
]
