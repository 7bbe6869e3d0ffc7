"""Whatever comes down the pipe is a message or a ProtocolError, and what KCL can say survives the way."""

from __future__ import annotations

import base64
import itertools
import json
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from consumer.protocol import ProcessRecords, ProtocolError, decode, encode_checkpoint
from pipeline.record import Position

SEQUENCES = st.integers(0, 10**56 - 1)
JSON: st.SearchStrategy[object] = st.sampled_from(
    [None, True, 0, 1, -1, 1.5, 2**63, "", "1", "a", "QQ==", "TRIM_HORIZON", "9" * 57, [], [1], {}]
)
ROW_NAMES = ("data", "partitionKey", "sequenceNumber", "subSequenceNumber", "approximateArrivalTimestamp")
ROWS = st.fixed_dictionaries({}, optional=dict.fromkeys(ROW_NAMES, JSON))
ACTIONS = st.sampled_from(
    ["initialize", "processRecords", "leaseLost", "shardEnded", "shutdownRequested", "checkpoint"]
)
ALMOST = st.fixed_dictionaries(
    {"action": ACTIONS},
    optional={
        "shardId": JSON,
        "sequenceNumber": JSON,
        "subSequenceNumber": JSON,
        "error": JSON,
        "records": st.lists(ROWS | JSON, max_size=3) | JSON,
        "millisBehindLatest": JSON,
    },
)
RECORDS = st.lists(st.tuples(st.binary(max_size=64), st.text(max_size=20), SEQUENCES, st.integers(0, 3)), max_size=20)


@given(st.binary())
def test_any_bytes_are_a_message_or_a_protocol_error(line: bytes) -> None:
    with suppress(ProtocolError):
        assert decode(line, "shard") is not None


@given(ALMOST)
def test_any_object_is_a_message_or_a_protocol_error(fields: dict[str, object]) -> None:
    with suppress(ProtocolError):
        assert decode(json.dumps(fields).encode(), "shard") is not None


@given(RECORDS)
def test_records_survive_the_way_and_aggregates_end_where_the_sequence_changes(
    rows: list[tuple[bytes, str, int, int]],
) -> None:
    fields = [
        dict(zip(ROW_NAMES, (base64.b64encode(data).decode(), key, str(sequence), sub, 5), strict=True))
        for data, key, sequence, sub in rows
    ]
    text = json.dumps({"action": "processRecords", "records": fields, "millisBehindLatest": 0}).encode()
    message = decode(text, "shard")
    assert isinstance(message, ProcessRecords)
    assert [(r.data, r.partition_key, int(r.sequence), r.sub) for r in message.records] == rows
    ends = [a[2] != b[2] for a, b in itertools.pairwise(rows)] + [True] * bool(rows)
    assert [record.whole for record in message.records] == ends


@given(SEQUENCES, st.integers(0, 2**31))
def test_a_checkpoint_is_one_line_of_json_with_the_whole_position(sequence: int, sub: int) -> None:
    line = encode_checkpoint(Position(sequence, sub))
    assert line.index(b"\n") == len(line) - 1
    sent = json.loads(line)
    assert (sent["sequenceNumber"], sent["subSequenceNumber"]) == (str(sequence), sub)
