"""A payload that was printed as a line is read back byte for byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.aws.record_lines import StreamRecord, fields_of, line_of, payload_of
from pipeline.record import Position

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
PAYLOADS = (
    st.binary()
    | st.text().map(lambda text: text.encode("utf-8", "replace"))
    | JSON.map(lambda value: json.dumps(value).encode())
)


def record(data: bytes, key: str | None = "k") -> StreamRecord:
    return StreamRecord("shardId-000000000003", Position(49_590_338_271_490_256_608, 2), key, 1_800_000_000_123, data)


@given(PAYLOADS, st.none() | st.text())
def test_payload_and_key_come_back(data: bytes, key: str | None) -> None:
    line = line_of(record(data, key))
    assert b"\n" not in line
    assert payload_of(line) == (data, key)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b'{"a":  1.50, "b": "\\u00e9"}', "data"),
        (b"[1,\n2]", "data_text"),
        (b" 1", "data_text"),
        (b"NaN", "data_text"),
        (b"", "data_text"),
        (b"a,b,c", "data_text"),
        (b"\xff\x00", "data_base64"),
    ],
)
def test_the_field_names_the_kind_of_payload(data: bytes, field: str) -> None:
    assert [name for name in json.loads(line_of(record(data))) if name.startswith("data")] == [field]


def test_the_fields_of_a_line() -> None:
    assert fields_of(record(b'{"a": 1}')) == {
        "shard_id": "shardId-000000000003",
        "sequence_number": "49590338271490256608",
        "sub_sequence_number": 2,
        "partition_key": "k",
        "arrived_at": "2027-01-15T08:00:00.123+00:00",
        "data": {"a": 1},
    }


@pytest.mark.parametrize("line", [b"{}", b"[]", b"x", b'{"data_base64": "?"}', b'{"partition_key": 1, "data": 1}'])
def test_another_line_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="the line is not a record"):
        payload_of(line)
