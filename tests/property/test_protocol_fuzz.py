"""Random lines are messages or a ProtocolError, and KCL's own messages are decoded correctly."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from contextlib import suppress

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.kcl.protocol import (
    CheckpointAnswer,
    Initialize,
    LeaseLost,
    ProcessRecords,
    ProtocolError,
    ShardEnded,
    ShutdownRequested,
    decode,
    encode_checkpoint,
)
from consumer.testing import row
from pipeline.record import Position
from tests.support.fuzz_inputs import (
    BATCH,
    NUMBERS,
    RAW,
    TEXTS,
    Dice,
    mangled,
    payloads,
    repeatable,
    seeds,
)

TEST = "tests/property/test_protocol_fuzz.py"
MESSAGES = (Initialize, ProcessRecords, LeaseLost, ShardEnded, ShutdownRequested, CheckpointAnswer)

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
RECORDS = st.lists(
    st.tuples(st.binary(max_size=64), st.none() | st.text(min_size=1, max_size=20), SEQUENCES), max_size=20
)


@given(st.binary())
def test_any_bytes_are_a_message_or_a_protocol_error(line: bytes) -> None:
    with suppress(ProtocolError):
        assert decode(line, "shard") is not None


@given(ALMOST)
def test_any_object_is_a_message_or_a_protocol_error(fields: dict[str, object]) -> None:
    with suppress(ProtocolError):
        assert decode(json.dumps(fields).encode(), "shard") is not None


@given(RECORDS)
def test_records_survive_the_way_and_none_comes_twice(rows: list[tuple[bytes, str | None, int]]) -> None:
    fields = [row(sequence, data, 0, key, 5) for data, key, sequence in rows]
    text = json.dumps({"action": "processRecords", "records": fields, "millisBehindLatest": 0}).encode()
    if any(a[2] == b[2] for a, b in itertools.pairwise(rows)):
        with pytest.raises(ProtocolError, match="took an aggregate apart"):
            decode(text, "shard")
        return
    message = decode(text, "shard")
    assert isinstance(message, ProcessRecords)
    assert [(r.data, r.partition_key, int(r.sequence)) for r in message.records] == rows
    assert all(record.whole and record.sub == 0 for record in message.records)


@given(SEQUENCES, st.integers(0, 2**31))
def test_a_checkpoint_is_one_line_of_json_with_the_whole_position(sequence: int, sub: int) -> None:
    line = encode_checkpoint(Position(sequence, sub))
    assert line.index(b"\n") == len(line) - 1
    sent = json.loads(line)
    assert (sent["sequenceNumber"], sent["subSequenceNumber"]) == (str(sequence), sub)


def test_100000_payloads_come_out_of_the_protocol_byte_for_byte() -> None:
    for seed in seeds():
        with repeatable(seed, TEST):
            sent = payloads(seed)
            rows = [row(number, data) for number, data in enumerate(sent, 1)]
            message = decode(orjson.dumps({"action": "processRecords", "records": rows}) + b"\n", "shard")
            assert isinstance(message, ProcessRecords)
            assert [record.data for record in message.records] == sent


def line(dice: Dice) -> dict[str, object]:
    """Any message of KCL, with few records."""
    place = {"sequenceNumber": str(dice.randrange(10**56)), "subSequenceNumber": dice.below(3)}
    records = [row(number, dice.randbytes(6)) for number in range(dice.below(3))]
    fields: dict[str, dict[str, object]] = {
        "initialize": {"shardId": "shardId-000000000000", **place},
        "processRecords": {"records": records, "millisBehindLatest": dice.below(10**6)},
        "checkpoint": {**place, "error": dice.choice([None, "ThrottlingException"])},
        "leaseLost": {},
        "shardEnded": {},
        "shutdownRequested": {},
    }
    action = dice.choices(list(fields), (3, 6, 3, 1, 1, 1))[0]
    return {"action": action, **fields[action]}


def swapped(dice: Dice, fields: dict[str, object]) -> bytes:
    """Replaces one value, at any depth, by one of another type, or by a far too large one."""
    inside = [fields, *(record for record in fields.get("records", ()) if isinstance(record, dict))]  # type: ignore[attr-defined]
    chosen = dice.choice(inside)
    name = dice.choice(list(chosen))
    chosen[name] = dice.choice((None, True, [], {}, [{}], 1.5, *NUMBERS, *TEXTS))
    return orjson.dumps(fields)


def raw(dice: Dice, fields: dict[str, object]) -> bytes:
    """As :func:`swapped`, with values that encoders do not write."""
    fields[dice.choice(list(fields))] = "@"
    return orjson.dumps(fields).replace(b'"@"', dice.choice(RAW))


def doubled(dice: Dice, fields: dict[str, object]) -> bytes:
    """A key twice, with two values."""
    name = dice.choice(list(fields))
    second = orjson.dumps({name: dice.choice((None, "x", 7, []))})
    return orjson.dumps(fields)[:-1] + b"," + second[1:]


WAYS: tuple[Callable[[Dice, dict[str, object]], bytes], ...] = (
    lambda dice, fields: mangled(dice, orjson.dumps(fields)),
    swapped,
    raw,
    doubled,
)


def complaint(broken: bytes) -> str:
    """The error of a line; empty if it is a message."""
    try:
        assert isinstance(decode(broken, "shard"), MESSAGES), broken
    except ProtocolError as error:
        return str(error)
    return ""


def test_100000_broken_lines_are_messages_or_protocol_errors() -> None:
    for seed in seeds():
        with repeatable(seed, TEST):
            dice = Dice(seed)
            complaints = [complaint(dice.choice(WAYS)(dice, line(dice))) for _ in range(BATCH)]
            assert 0 < sum(map(bool, complaints)) < BATCH
            assert not [each for each in complaints if "\n" in each or len(each) > 200]
