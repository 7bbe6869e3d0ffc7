"""KCL's multi-language protocol: the JSON lines that the MultiLangDaemon of KCL 3 writes and reads. Pure.

Field names and types come from ``software.amazon.kinesis.multilang.messages`` in KCL's source. A line that is not one
of these messages raises :class:`ProtocolError` and nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
from pybase64 import b64decode

from pipeline.aggregate import aggregate_or_record
from pipeline.errors import Broken
from pipeline.escape import shown
from pipeline.kpl import MAGIC
from pipeline.record import Position, Record

SENTINELS = frozenset({"TRIM_HORIZON", "LATEST", "AT_TIMESTAMP", "SHARD_END"})
"""Values that may replace a sequence number (``ExtendedSequenceNumber`` in KCL)."""

SEQUENCE_DIGITS = 56
"""Maximum number of digits of a sequence number. Keys of Parquet files are padded to it."""

PART_BYTES = 1024 * 1024
"""Larger messages are decoded in parts of about this size: a whole message as Python objects needs several times the
memory of its records."""

TEXT_LENGTH = 160
"""Maximum length of an error text, which may quote what was sent."""

TAKEN_APART = "KCL took an aggregate apart: the JVM's class path has another AggregatorUtil than Penstock's"


class ProtocolError(Broken):
    """KCL sent a line that is not part of its protocol. The text says what is wrong, in one line."""


@dataclass(frozen=True, slots=True)
class Initialize:
    """A shard starts after ``checkpoint``. It is None if KCL sent a sentinel, which is then in ``sentinel``."""

    shard_id: str
    checkpoint: Position | None
    sentinel: str = ""


@dataclass(frozen=True, slots=True)
class ProcessRecords:
    """Records in sequence order, possibly none. An aggregate is one :class:`pipeline.aggregate.Aggregate`.

    ``millis_behind`` is the lag behind the tip of the stream in milliseconds, if known.
    """

    records: list[Record] = field(repr=False)
    millis_behind: int | None


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """Another worker has the shard, or will have it. KCL refuses checkpoints from now on."""


@dataclass(frozen=True, slots=True)
class ShardEnded:
    """The shard was closed by a reshard, and all its records were delivered. The checkpoint must have nulls."""


@dataclass(frozen=True, slots=True)
class ShutdownRequested:
    """The worker leaves. This is the last chance to checkpoint."""


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
    """Decode one line. ``shard_id`` is set on the records; the lines do not have it.

    :raises ProtocolError: if the line is not a message of KCL.
    """
    if len(line) > PART_BYTES and (message := _in_parts(line, shard_id)):
        return message
    try:
        return _message(_LINES.decode(line), shard_id)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"not a message of KCL: {shown(str(error)):.{TEXT_LENGTH}}") from None
    except msgspec.DecodeError as error:
        raise ProtocolError(f"a line of {len(line)} bytes is not JSON: {error}") from None
    except UnicodeDecodeError as error:
        raise ProtocolError(f"a line of {len(line)} bytes is not UTF-8: {error.reason}") from None


def encode_status(response_for: str) -> bytes:
    """Encode the answer that the message with this action has been processed and KCL may continue."""
    return b'{"action":"status","responseFor":"%s"}\n' % response_for.encode()


def encode_checkpoint(position: Position | None) -> bytes:
    """Encode a request for a checkpoint. None means the end of what was delivered, or after ``shardEnded`` of the
    shard.

    The sub-sequence number is always sent. KCL reads a missing one as 0, and the rest of an aggregate comes again.
    """
    if position is None:
        return b'{"action":"checkpoint","sequenceNumber":null,"subSequenceNumber":null}\n'
    return b'{"action":"checkpoint","sequenceNumber":"%d","subSequenceNumber":%d}\n' % position


_Long = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""Java's."""


class _Initialize(msgspec.Struct, rename="camel", tag_field="action", tag="initialize"):
    shard_id: str
    sequence_number: str
    sub_sequence_number: _Long | None = None


class _Row(msgspec.Struct, rename="camel", gc=False):
    """``data`` stays text: pybase64 decodes it faster than msgspec."""

    data: str
    sequence_number: str
    sub_sequence_number: _Long
    approximate_arrival_timestamp: _Long
    partition_key: str | None = None


class _ProcessRecords(msgspec.Struct, rename="camel", tag_field="action", tag="processRecords"):
    records: list[_Row]
    millis_behind_latest: _Long | None = None


class _Checkpoint(msgspec.Struct, rename="camel", tag_field="action", tag="checkpoint"):
    sequence_number: str | None = None
    sub_sequence_number: _Long | None = None
    error: str | None = None


class _LeaseLost(msgspec.Struct, tag_field="action", tag="leaseLost"):
    pass


class _ShardEnded(msgspec.Struct, tag_field="action", tag="shardEnded"):
    pass


class _ShutdownRequested(msgspec.Struct, tag_field="action", tag="shutdownRequested"):
    pass


_Line = _Initialize | _ProcessRecords | _Checkpoint | _LeaseLost | _ShardEnded | _ShutdownRequested
_LINES = msgspec.json.Decoder(_Line)
_ROWS = msgspec.json.Decoder(list[_Row])

_SEQUENCE = re.compile(rf"[0-9]{{1,{SEQUENCE_DIGITS}}}", re.ASCII)
_SHARD_ID = re.compile(r"[a-zA-Z0-9_-][a-zA-Z0-9_.-]{0,127}", re.ASCII)
"""From the API model of Kinesis, without names that start with a dot: the shard id becomes part of file names."""
_RECORDS = b'"records":['
_NEXT_ROW = re.compile(rb'\}\s*,\s*(?=\{\s*"\w)')
"""The boundary between two rows. It cannot match within a string, where quotation marks are escaped."""


def _message(line: _Line, shard_id: str) -> Message:
    match line:
        case _ProcessRecords():
            return ProcessRecords(_records(line.records, shard_id, []), line.millis_behind_latest)
        case _Checkpoint():
            return CheckpointAnswer(
                None if line.sequence_number is None else _position("checkpoint", line, line.sequence_number),
                line.error,
            )
        case _Initialize():
            return _initialize(line)
        case _LeaseLost():
            return LeaseLost()
        case _ShardEnded():
            return ShardEnded()
        case _ShutdownRequested():
            return ShutdownRequested()


def _in_parts(line: bytes | bytearray | memoryview, shard_id: str) -> ProcessRecords | None:
    """Decode a large ``processRecords`` in parts. None if it is another message or not in the layout of KCL."""
    text = bytes(line)
    begin, end = text.find(_RECORDS, 0, 200) + len(_RECORDS), text.rfind(b"}]") + 1
    if not len(_RECORDS) <= begin < end:
        return None
    try:
        message = _message(_LINES.decode(text[:begin] + text[end:]), shard_id)
        if not isinstance(message, ProcessRecords):
            return None
        while begin < end:
            cut = _NEXT_ROW.search(text, begin + PART_BYTES, end)
            _records(
                _ROWS.decode(b"[" + text[begin : cut.start() + 1 if cut else end] + b"]"), shard_id, message.records
            )
            begin = cut.end() if cut else end
    except (msgspec.DecodeError, UnicodeDecodeError, ProtocolError):
        return None
    return message


def _initialize(line: _Initialize) -> Message:
    if not _SHARD_ID.fullmatch(line.shard_id):
        raise ProtocolError(f"initialize: shardId {line.shard_id!r:.80} is not a valid shard id")
    if line.sequence_number in SENTINELS:
        return Initialize(line.shard_id, None, line.sequence_number)
    return Initialize(line.shard_id, _position("initialize", line, line.sequence_number))


def _records(rows: list[_Row], shard_id: str, records: list[Record]) -> list[Record]:
    """Append to ``records`` and return them. Hot loop: one pass, and only the decoder is called per record."""
    append = records.append
    last = records[-1].sequence if records else ""
    try:
        for row in rows:
            sequence = row.sequence_number
            if row.sub_sequence_number != 0 or sequence == last:
                raise ProtocolError(f"processRecords: record {len(records)}: {TAKEN_APART}")
            if not (sequence.isdigit() and sequence.isascii() and len(sequence) <= SEQUENCE_DIGITS):
                raise ProtocolError(f"processRecords: record {len(records)}: {_bad_sequence(sequence)}")
            data = b64decode(row.data, None, True)
            record = Record(shard_id, data, row.partition_key or None, sequence, 0, row.approximate_arrival_timestamp)
            append(aggregate_or_record(record) if data.startswith(MAGIC) else record)
            last = sequence
    except ValueError:
        raise ProtocolError(f"processRecords: record {len(records)}: data is not base64") from None
    return records


def _bad_sequence(sequence: str) -> str:
    """What is wrong with a sequence number; empty if it is valid."""
    if _SEQUENCE.fullmatch(sequence):
        return ""
    return f"sequenceNumber {sequence!r:.80} is not a decimal number of at most {SEQUENCE_DIGITS} digits"


def _position(action: str, line: _Initialize | _Checkpoint, sequence: str) -> Position:
    if wrong := _bad_sequence(sequence):
        raise ProtocolError(f"{action}: {wrong}")
    if line.sub_sequence_number is None:
        raise ProtocolError(f"{action}: subSequenceNumber is missing")
    return Position(int(sequence), line.sub_sequence_number)
