"""KCL's multi-language protocol: JSON lines, as the MultiLangDaemon of KCL 3 writes and reads them. Pure.

Field names and types are those of ``software.amazon.kinesis.multilang.messages`` in KCL's source. A line that is
none of its messages raises :class:`ProtocolError` and nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import orjson
from pybase64 import b64decode

from pipeline.aggregate import looked_into
from pipeline.errors import Broken
from pipeline.kpl import MAGIC
from pipeline.record import Position, Record

SENTINELS = frozenset({"TRIM_HORIZON", "LATEST", "AT_TIMESTAMP", "SHARD_END"})
"""What stands where a sequence number would, as ``ExtendedSequenceNumber`` has it."""

SEQUENCE_DIGITS = 56
"""The most that a sequence number has; keys of Parquet files are padded to it."""

PART_BYTES = 1024 * 1024
"""Of a message that is larger, about so much is decoded at a time: all of it as Python objects has several times the
size of its records."""

TAKEN_APART = "KCL took an aggregate apart: another AggregatorUtil than Penstock's is on the JVM's class path"


class ProtocolError(Broken):
    """KCL wrote what its protocol does not have. The text says what, and begins with the message's action."""


@dataclass(frozen=True, slots=True)
class Initialize:
    """A shard begins after ``checkpoint``; None where KCL sent a sentinel, which is then in ``sentinel``."""

    shard_id: str
    checkpoint: Position | None
    sentinel: str = ""


@dataclass(frozen=True, slots=True)
class ProcessRecords:
    """Records in sequence order, perhaps none; of aggregates, :class:`pipeline.aggregate.Aggregate`, as KCL has them.

    ``millis_behind`` is the lag behind the stream's tip, if known.
    """

    records: list[Record] = field(repr=False)
    millis_behind: int | None


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """Another worker has the shard, or will have it. Checkpoints are refused from here on."""


@dataclass(frozen=True, slots=True)
class ShardEnded:
    """The shard was closed by a reshard and all of it was delivered. Checkpoint with nulls."""


@dataclass(frozen=True, slots=True)
class ShutdownRequested:
    """The worker is leaving; the last chance to checkpoint."""


@dataclass(frozen=True, slots=True)
class CheckpointAnswer:
    """The answer to our checkpoint. ``error`` is the simple name of a Java exception class.

    KCL's own are ``ShutdownException`` (the lease is lost), ``ThrottlingException``,
    ``KinesisClientLibDependencyException`` (both may be tried again), ``InvalidStateException`` (the lease table is
    not usable) and ``IllegalArgumentException`` (beyond what was delivered, or behind the last checkpoint).
    """

    position: Position | None
    error: str | None


Message = Initialize | ProcessRecords | LeaseLost | ShardEnded | ShutdownRequested | CheckpointAnswer


def decode(line: bytes | bytearray | memoryview, shard_id: str = "") -> Message:
    """One line of KCL's. ``shard_id`` becomes that of the records, which do not carry it themselves.

    :raises ProtocolError: for anything that is no message of KCL's, with what was wrong.
    """
    if len(line) > PART_BYTES and (message := _in_parts(line, shard_id)):
        return message
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ProtocolError(f"a line of {len(line)} bytes is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ProtocolError(f"a message must be an object, not {_kind(fields)}")
    try:
        return _message(fields, shard_id)
    except _WrongFieldError as wrong:
        raise ProtocolError(f"{fields['action']}: {wrong}") from None


def encode_status(response_for: str) -> bytes:
    """Says that the message with this action is dealt with and KCL may go on."""
    return b'{"action":"status","responseFor":"%s"}\n' % response_for.encode()


def encode_checkpoint(position: Position | None) -> bytes:
    """Asks for a checkpoint; None is the end of what was delivered, or at ``shardEnded`` the end of the shard.

    The sub-sequence number is always sent: KCL takes its absence for 0, and the tail of an aggregate comes again.
    """
    if position is None:
        return b'{"action":"checkpoint","sequenceNumber":null,"subSequenceNumber":null}\n'
    return b'{"action":"checkpoint","sequenceNumber":"%d","subSequenceNumber":%d}\n' % position


class _WrongFieldError(Exception):
    """What is wrong with a message, without its action."""


_SEQUENCE = re.compile(rf"[0-9]{{1,{SEQUENCE_DIGITS}}}", re.ASCII)
_SHARD_ID = re.compile(r"[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,127}", re.ASCII)
"""As Kinesis's API model has it, and no path: it becomes part of the names of files."""
_ROW = itemgetter("data", "sequenceNumber", "subSequenceNumber", "approximateArrivalTimestamp", "partitionKey")
_RECORDS = b'"records":['
_NEXT_ROW = re.compile(rb'\}\s*,\s*(?=\{\s*"\w)')
"""Between two rows. Within a string, a quotation mark that is followed by a letter would be escaped."""


def _message(fields: dict[str, Any], shard_id: str) -> Message:
    match fields.get("action"):
        case "processRecords":
            return _process_records(fields, shard_id)
        case "checkpoint":
            return _checkpoint(fields)
        case "initialize":
            return _initialize(fields)
        case "leaseLost":
            return LeaseLost()
        case "shardEnded":
            return ShardEnded()
        case "shutdownRequested":
            return ShutdownRequested()
        case other:
            raise ProtocolError(f"no message has the action {other!r:.80}")


def _in_parts(line: bytes | bytearray | memoryview, shard_id: str) -> ProcessRecords | None:
    """A large ``processRecords``, some rows at a time; None if it is none, or not as KCL writes it."""
    text = bytes(line)
    begin, end = text.find(_RECORDS, 0, 200) + len(_RECORDS), text.rfind(b"}]") + 1
    if not len(_RECORDS) <= begin < end:
        return None
    try:
        fields = orjson.loads(text[:begin] + text[end:])
        message = _message(fields, shard_id) if isinstance(fields, dict) else None
        if not isinstance(message, ProcessRecords):
            return None
        while begin < end:
            cut = _NEXT_ROW.search(text, begin + PART_BYTES, end)
            rows = orjson.loads(b"[" + text[begin : cut.start() + 1 if cut else end] + b"]")
            _records(rows, shard_id, message.records)
            begin = cut.end() if cut else end
    except (orjson.JSONDecodeError, _WrongFieldError):
        return None
    return message


def _initialize(fields: dict[str, Any]) -> Message:
    shard_id = _of(fields, "shardId", str)
    if not _SHARD_ID.fullmatch(shard_id):
        raise _WrongFieldError(f"shardId {shard_id!r:.80} cannot name a shard")
    sequence = _of(fields, "sequenceNumber", str)
    if sequence in SENTINELS:
        return Initialize(shard_id, None, sequence)
    return Initialize(shard_id, _position(fields, sequence))


def _process_records(fields: dict[str, Any], shard_id: str) -> Message:
    rows = _of(fields, "records", list)
    behind = fields.get("millisBehindLatest")
    if behind is not None and type(behind) is not int:
        raise _WrongFieldError(f"millisBehindLatest is {_kind(behind)}, not a number")
    return ProcessRecords(_records(rows, shard_id, []), behind)


def _records(rows: list[Any], shard_id: str, records: list[Record]) -> list[Record]:
    """Behind ``records``. The hot loop: one pass, no call per record but the decoder's."""
    append = records.append
    last = records[-1].sequence if records else ""
    row: Any = None
    try:
        for row in rows:
            try:
                data, sequence, sub, arrived, key = _ROW(row)
            except KeyError:
                row.setdefault("partitionKey")
                data, sequence, sub, arrived, key = _ROW(row)
            if not key and (key is None or key == ""):
                key = None
            elif type(key) is not str:
                raise _WrongFieldError(_why(row, len(records)))
            if type(arrived) is not int:
                raise _WrongFieldError(_why(row, len(records)))
            if sub != 0 or type(sub) is not int or sequence == last:
                raise _WrongFieldError(_why(row, len(records)))
            if not (sequence.isdigit() and sequence.isascii() and len(sequence) <= SEQUENCE_DIGITS):
                raise _WrongFieldError(_why(row, len(records)))
            data = b64decode(data, None, True)
            record = Record(shard_id, data, key, sequence, 0, arrived)
            append(looked_into(record) if data.startswith(MAGIC) else record)
            last = sequence
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _WrongFieldError(_why(row, len(records))) from None
    return records


def _why(row: Any, index: int) -> str:
    """What is wrong with a row that the hot loop refused."""
    where = f"record {index}"
    if not isinstance(row, dict):
        return f"{where} is {_kind(row)}, not an object"
    for name, kind in _ROW_FIELDS.items():
        if type(row.get(name)) is not kind and not (name == "partitionKey" and row.get(name) is None):
            return f"{where}: {name} is {_kind(row.get(name))}, not {_NAMES[kind]}"
    if wrong := _bad_sequence(row["sequenceNumber"]):
        return f"{where}: {wrong}"
    try:
        b64decode(row["data"], None, True)
    except ValueError:
        return f"{where}: data is not base64"
    return f"{where}: {TAKEN_APART}"


def _bad_sequence(sequence: str) -> str:
    """What is wrong with a sequence number, or nothing."""
    if _SEQUENCE.fullmatch(sequence):
        return ""
    return f"sequenceNumber {sequence!r:.80} is no decimal of at most {SEQUENCE_DIGITS} digits"


def _checkpoint(fields: dict[str, Any]) -> Message:
    error = fields.get("error")
    if error is not None and not isinstance(error, str):
        raise _WrongFieldError(f"error is {_kind(error)}, not a string")
    sequence = fields.get("sequenceNumber")
    if sequence is None:
        return CheckpointAnswer(None, error)
    return CheckpointAnswer(_position(fields, _of(fields, "sequenceNumber", str)), error)


def _position(fields: dict[str, Any], sequence: str) -> Position:
    if wrong := _bad_sequence(sequence):
        raise _WrongFieldError(wrong)
    return Position(int(sequence), _of(fields, "subSequenceNumber", int))


def _of(fields: dict[str, Any], name: str, kind: type) -> Any:
    value = fields.get(name)
    if type(value) is not kind:
        raise _WrongFieldError(f"{name} is {_kind(value)}, not {_NAMES[kind]}")
    return value


def _kind(value: object) -> str:
    return "missing" if value is None else _NAMES.get(type(value), "a number")


_NAMES: dict[type, str] = {
    str: "a string",
    int: "a whole number",
    float: "a fraction",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}

_ROW_FIELDS: dict[str, type] = {
    "data": str,
    "partitionKey": str,
    "sequenceNumber": str,
    "subSequenceNumber": int,
    "approximateArrivalTimestamp": int,
}
