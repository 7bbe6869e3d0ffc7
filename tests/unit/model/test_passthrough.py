"""Carried fields keep what the producer wrote: every digit of a number, and text as text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model import Reject
from pipeline.model.arrow_rows import RowMaker


def passthrough(kind: str, text: str) -> Any:
    """The carried value of a payload whose field is written as ``text``."""
    payload = f'{{"before": [1, {{"x": 2}}], "x" : {text} , "after": "x"}}'.encode()
    rows = RowMaker(pa.schema([("y", pa.int64())]), {"x": kind})
    row = rows.passthrough(orjson.loads(payload), payload, reads_json=True)
    return rows.make([row], [{"y": 1}]).batch.column("x")[0].as_py()


@pytest.mark.parametrize(
    "text",
    [
        str(2**64 + 1),
        "-" + "9" * 60,
        "0.1000000000000000055511151231257827",
        "1e5",
        "-0.0",
        "1.50",
        "true",
        "[1.0,  2]",
        '{"b": 1, "a": 1e300}',
        '["\\u00fc"]',
    ],
)
def test_other_values_are_carried_as_text_as_they_are_written(text: str) -> None:
    assert passthrough("string", text) == text


def test_of_a_field_that_is_there_twice_the_last_is_carried() -> None:
    assert passthrough("string", '1.0, "x": 18446744073709551617') == "18446744073709551617"


@given(st.integers(-(2**70), 2**70))
def test_whole_numbers_are_carried_exactly_or_refused(number: int) -> None:
    assert passthrough("string", str(number)) == str(number)
    if -(2**63) <= number < 2**63:
        assert passthrough("int64", str(number)) == number
    else:
        with pytest.raises(Reject):
            passthrough("int64", str(number))
    if int(float(number)) == number:
        assert passthrough("float64", str(number)) == number
    else:
        with pytest.raises(Reject, match="float64 cannot hold exactly"):
            passthrough("float64", str(number))


@pytest.mark.parametrize("text", ["1767225600", "1767225600.5", "18446744073709551617"])
def test_a_number_is_not_a_time_without_a_unit(text: str) -> None:
    with pytest.raises(Reject, match="a number, whose unit is unknown"):
        passthrough("timestamp", text)


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_a_number_is_a_time_in_its_unit(unit: str, factor: int) -> None:
    assert passthrough(f"timestamp[{unit}]", str(1767225600 * factor)) == datetime(2026, 1, 1, tzinfo=UTC)
