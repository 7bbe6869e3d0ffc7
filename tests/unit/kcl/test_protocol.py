"""KCL's messages as KCL writes them, and ours as KCL reads them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from consumer.kcl.protocol import (
    PART_BYTES,
    CheckpointAnswer,
    Initialize,
    LeaseLost,
    ProcessRecords,
    ProtocolError,
    ShardEnded,
    ShutdownRequested,
    decode,
    encode_checkpoint,
    encode_status,
)
from consumer.testing import aggregate
from pipeline.aggregate import Aggregate
from pipeline.record import Position

SEQUENCE = "49668899999999999999999999999999999999999999999999999998"


def row(**changes: Any) -> dict[str, Any]:
    whole = {
        "action": "record",
        "data": base64.b64encode(b"{}").decode(),
        "partitionKey": "schlüssel",
        "sequenceNumber": SEQUENCE,
        "approximateArrivalTimestamp": 1_700_000_000_123,
        "subSequenceNumber": 0,
    }
    return whole | changes


def line(action: str, **fields: Any) -> bytes:
    return json.dumps({"action": action, **fields}).encode() + b"\n"


def test_initialize_at_a_checkpoint_carries_its_position() -> None:
    message = decode(line("initialize", shardId="shardId-000000000001", sequenceNumber=SEQUENCE, subSequenceNumber=7))
    assert message == Initialize("shardId-000000000001", Position(int(SEQUENCE), 7))


@pytest.mark.parametrize("sentinel", ["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP", "SHARD_END"])
def test_initialize_at_a_sentinel_has_no_checkpoint_but_names_it(sentinel: str) -> None:
    message = decode(line("initialize", shardId="s", sequenceNumber=sentinel, subSequenceNumber=0))
    assert message == Initialize("s", None, sentinel)


def test_process_records_become_records_of_the_shard_with_their_bytes() -> None:
    payload = b"\x00\xff not text"
    data = base64.b64encode(payload).decode()
    message = decode(line("processRecords", records=[row(data=data)], millisBehindLatest=12), "shard")
    assert isinstance(message, ProcessRecords)
    (record,) = message.records
    assert message.millis_behind == 12
    assert (record.shard_id, record.data, record.partition_key) == ("shard", payload, "schlüssel")
    assert (record.position, record.arrived_ms) == (Position(int(SEQUENCE), 0), 1_700_000_000_123)


def test_an_empty_call_is_a_beat_without_records() -> None:
    message = decode(line("processRecords", records=[], millisBehindLatest=None))
    assert message == ProcessRecords([], None)


def test_an_aggregate_is_one_record_until_there_is_room_for_what_it_holds() -> None:
    data = base64.b64encode(aggregate([b"1", b"2", b"3"])).decode()
    rows = [row(sequenceNumber="10"), row(sequenceNumber="11", data=data), row(sequenceNumber="12")]
    message = decode(line("processRecords", records=rows, millisBehindLatest=0), "shard")
    assert isinstance(message, ProcessRecords)
    first, held, last = message.records
    assert first.whole and last.whole
    assert isinstance(held, Aggregate)
    assert (held.count, held.last) == (3, Position(11, 2))


def test_an_aggregate_that_kcl_took_apart_is_refused_with_one_line_that_says_why() -> None:
    for rows in ([row(subSequenceNumber=1)], [row(), row()]):
        with pytest.raises(ProtocolError, match="KCL took an aggregate apart") as caught:
            decode(line("processRecords", records=rows, millisBehindLatest=0), "shard")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", [None, ""])
def test_a_record_may_be_without_a_partition_key(key: str | None) -> None:
    without = {name: value for name, value in row().items() if name != "partitionKey"}
    for each in (row(partitionKey=key), without):
        message = decode(line("processRecords", records=[each], millisBehindLatest=0), "shard")
        assert isinstance(message, ProcessRecords)
        assert message.records[0].partition_key is None


def test_a_large_message_is_decoded_in_parts_to_the_same_records() -> None:
    keys = ["k", '},{"action":"record"', '"},{"action"', "]}", 'x\\"}],"millisBehindLatest":0}', ""]
    rows = [row(sequenceNumber=str(n), partitionKey=keys[n % 6], data="AAAA" * 300) for n in range(1, 4000)]
    text = line("processRecords", records=rows, millisBehindLatest=7)
    assert len(text) > 3 * PART_BYTES
    message = decode(text, "shard")
    assert isinstance(message, ProcessRecords)
    assert message.millis_behind == 7
    assert [(r.sequence, r.partition_key, len(r.data)) for r in message.records] == [
        (each["sequenceNumber"], each["partitionKey"] or None, 900) for each in rows
    ]


def test_errors_in_large_messages_are_reported_like_those_in_small_ones() -> None:
    rows = [row(sequenceNumber=str(n), data="AAAA" * 300) for n in range(1, 2000)]
    rows[1500]["partitionKey"] = 7
    with pytest.raises(ProtocolError, match=r"got `int` - at `\$\.records\[1500\]\.partitionKey`"):
        decode(line("processRecords", records=rows, millisBehindLatest=7), "shard")
    rows[1500]["partitionKey"] = "7"
    with pytest.raises(ProtocolError, match="is not JSON"):
        decode(line("processRecords", records=rows, millisBehindLatest=7)[:-9], "shard")


@pytest.mark.parametrize(
    ("action", "message"),
    [("leaseLost", LeaseLost()), ("shardEnded", ShardEnded()), ("shutdownRequested", ShutdownRequested())],
)
def test_messages_without_fields(action: str, message: object) -> None:
    assert decode(line(action)) == message


def test_a_checkpoint_is_answered_with_its_position_and_no_error() -> None:
    message = decode(line("checkpoint", sequenceNumber=SEQUENCE, subSequenceNumber=3, error=None))
    assert message == CheckpointAnswer(Position(int(SEQUENCE), 3), None)


def test_a_refused_checkpoint_names_the_java_exception() -> None:
    message = decode(line("checkpoint", sequenceNumber=None, subSequenceNumber=None, error="ShutdownException"))
    assert message == CheckpointAnswer(None, "ShutdownException")


def test_any_kind_of_buffer_is_read() -> None:
    assert decode(bytearray(line("leaseLost"))) == decode(memoryview(line("leaseLost"))) == LeaseLost()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "a line of 0 bytes is not JSON"),
        (b'{"action":', "is not JSON"),
        (b'["initialize"]', "Expected `object`, got `array`"),
        (b"{}", "missing required field `action`"),
        (line("status", responseFor="x"), "Invalid value 'status' - at `$.action`"),
        (b'{"action":["initialize"]}', "Expected `str` - at `$.action`"),
        (line("initialize", sequenceNumber="1", subSequenceNumber=0), "missing required field `shardId`"),
        (line("initialize", shardId="", sequenceNumber="1"), "initialize: shardId '' is not a valid shard id"),
        (line("initialize", shardId="../s", sequenceNumber="1"), "shardId '../s' is not a valid shard id"),
        (line("initialize", shardId="s\n", sequenceNumber="1"), "is not a valid shard id"),
        (line("initialize", shardId="s" * 129, sequenceNumber="1"), "is not a valid shard id"),
        (line("initialize", shardId="s", sequenceNumber="", subSequenceNumber=0), "initialize: sequenceNumber ''"),
        (line("initialize", shardId="s", sequenceNumber="1"), "initialize: subSequenceNumber is missing"),
        (line("processRecords", millisBehindLatest=1), "missing required field `records`"),
        (line("processRecords", records=[], millisBehindLatest="1"), "got `str` - at `$.millisBehindLatest`"),
        (line("processRecords", records=[row(), None]), "got `null` - at `$.records[1]`"),
        (line("processRecords", records=[row(data=None)]), "got `null` - at `$.records[0].data`"),
        (line("processRecords", records=[row(data="a")]), "record 0: data is not base64"),
        (line("processRecords", records=[row(data="ä===")]), "record 0: data is not base64"),
        (line("processRecords", records=[row(partitionKey=1)]), "got `int` - at `$.records[0].partitionKey`"),
        (
            line("processRecords", records=[row(sequenceNumber="-1")]),
            "record 0: sequenceNumber '-1' is not a decimal number",
        ),
        (line("processRecords", records=[row(sequenceNumber="٣")]), "record 0: sequenceNumber"),
        (
            line("processRecords", records=[row(sequenceNumber="1" * 57)]),
            "is not a decimal number of at most 56 digits",
        ),
        (
            line("processRecords", records=[row(subSequenceNumber=True)]),
            "`bool` - at `$.records[0].subSequence",
        ),
        (
            line("processRecords", records=[row(approximateArrivalTimestamp=1.5)]),
            "`float` - at `$.records[0].approximate",
        ),
        (line("checkpoint", error=1), "got `int` - at `$.error`"),
        (line("checkpoint", sequenceNumber=5), "got `int` - at `$.sequenceNumber`"),
    ],
)
def test_invalid_messages_say_what_is_wrong(text: bytes, complaint: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(text, "shard")
    assert complaint in str(caught.value)


def test_status_is_one_line_that_names_the_action() -> None:
    encoded = encode_status("processRecords")
    assert encoded.count(b"\n") == 1 and encoded.endswith(b"\n")
    assert json.loads(encoded) == {"action": "status", "responseFor": "processRecords"}


def test_a_checkpoint_always_sends_the_sub_sequence_number() -> None:
    encoded = encode_checkpoint(Position(int(SEQUENCE), 0))
    assert json.loads(encoded) == {"action": "checkpoint", "sequenceNumber": SEQUENCE, "subSequenceNumber": 0}


def test_the_end_is_checkpointed_with_nulls() -> None:
    encoded = encode_checkpoint(None)
    assert json.loads(encoded) == {"action": "checkpoint", "sequenceNumber": None, "subSequenceNumber": None}
