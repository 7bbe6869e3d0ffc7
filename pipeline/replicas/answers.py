"""What a replica answered, checked in full before the host works with it.

A replica runs a model that may have been taken over, or that writes where it should not. Whatever it sends ends here
as an answer that is right in its form, or as :class:`pipeline.model_process.frames.Garbage`; never as a fault in the
host. Arrow's own reader checks a message's metadata, and its full validation what the metadata points at.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal, cast

import pyarrow as pa

from pipeline.errors import plain
from pipeline.model_process import frames
from pipeline.model_process.frames import Frame, Garbage
from pipeline.record import REASONS, Fault

TEXT_LIMIT = 64 * 1024
"""Characters of one text of an answer; replicas send less."""

FAILURES = frozenset({"failed", "memory", "worn", "broken", "fatal"})

PREDICTS = frozenset({"predict", "example", frames.BESIDE_EXAMPLE})
"""What is answered with rows."""

MOST_COST = 2**62

SUSPICIOUS = (pa.ArrowException, ValueError, OSError, KeyError, IndexError, TypeError, OverflowError, struct.error)
"""What reading bytes that are none of Arrow's may raise."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What the model turned out to be, and how it started. ``pid``: of the process that holds the model."""

    schema: pa.Schema
    measures: bool
    pads: bool
    seconds: float
    example_s: float | None
    pid: int
    wants_records: bool = False
    closes: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """``batch`` has the good records' rows in order; ``faults`` says by index which have none, and why."""

    batch: pa.RecordBatch
    faults: dict[int, Fault]
    replica: int
    seconds: float
    strain: float | None = None
    op: Literal["rows"] = "rows"


@dataclass(frozen=True, slots=True)
class Costs:
    """One cost per record, at least 1; ``faults`` says by index which have none, and why."""

    costs: array[int]
    faults: dict[int, Fault]
    strain: float | None = None
    op: Literal["costs"] = "costs"


@dataclass(frozen=True, slots=True)
class Failed:
    """The batch as a whole. ``op`` is one of :data:`FAILURES`; after ``broken`` the replica is of no use.

    ``strain``: how much of the memory that a replica may take is taken, from 0 to 1; None where there is no limit.
    """

    op: Literal["failed", "memory", "worn", "broken", "fatal"]
    fault: Fault
    strain: float | None = None


Answer = Rows | Costs | Failed


def ready(frame: Frame) -> Ready:
    """The first answer of a replica that is of use. Raises :class:`Garbage`."""
    head = frame.head
    if frame.op != "ready":
        raise Garbage(f"{_shown(frame.op)} for a start")
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(frame.body))
    except SUSPICIOUS:
        raise Garbage("a schema that is none") from None
    example_s = None if head.get("example_s") is None else _seconds(head, "example_s")
    return Ready(
        schema,
        _flag(head, "measures"),
        _flag(head, "pads"),
        _seconds(head, "seconds"),
        example_s,
        _whole(head, "pid"),
        _flag(head, "wants_records"),
        _flag(head, "closes"),
    )


def _flag(head: dict[str, Any], name: str) -> bool:
    value = head.get(name)
    if not isinstance(value, bool):
        raise Garbage("a start that does not say what the model is")
    return value


def unusable(frame: Frame) -> str:
    """Why a model cannot be used. Raises :class:`Garbage`."""
    return _text(frame.head, "reason")


@dataclass(frozen=True, slots=True)
class Reader:
    """Of the answers of replicas whose rows have this schema."""

    schema: pa.Schema
    _start: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_start", self.schema.serialize().to_pybytes())

    def read(self, frame: Frame, asked: str, count: int) -> Answer:
        """The answer to a request ``asked`` about so many records. Raises :class:`Garbage`."""
        if frame.op in FAILURES and asked in PREDICTS:
            op = cast("Literal['failed', 'memory', 'worn', 'broken', 'fatal']", frame.op)
            return Failed(op, _fault(frame.head), _strain(frame.head))
        if frame.op == "rows" and asked in PREDICTS:
            faults = _faults(frame.head, count)
            batch = self._batch(frame.body)
            if batch.num_rows + len(faults) != count:
                raise Garbage(f"{batch.num_rows} rows and {len(faults)} faults for {count} records")
            return Rows(
                batch, faults, _whole(frame.head, "replica"), _seconds(frame.head, "seconds"), _strain(frame.head)
            )
        if frame.op == "costs" and asked == "measure":
            return Costs(_costs(frame.body, count), _faults(frame.head, count), _strain(frame.head))
        raise Garbage(f"{_shown(frame.op)} for a {asked}")

    def _batch(self, body: memoryview) -> pa.RecordBatch:
        """The one batch of a stream that begins with our schema, byte for byte, so that no other is ever read."""
        if bytes(body[: len(self._start)]) != self._start:
            raise Garbage("rows of another schema")
        try:
            data = pa.py_buffer(body)
            for message in pa.ipc.MessageReader.open_stream(data):
                if message.type != "schema" and _is_compressed(message.metadata.to_pybytes()):
                    raise Garbage("compressed rows")
            with pa.ipc.open_stream(data) as stream:
                if (batch := next(iter(stream), None)) is None:
                    raise Garbage("no batch")
                if next(iter(stream), None) is not None:
                    raise Garbage("more than one batch")
            batch.validate(full=True)
        except SUSPICIOUS as error:
            raise Garbage(f"rows that are none of Arrow's: {plain(' '.join(str(error).split()), 200)}") from None
        if batch.schema != self.schema:
            raise Garbage("rows of another schema")
        if any(_lacks(column, field) for column, field in zip(batch.columns, self.schema, strict=True)):
            raise Garbage("null where the output_schema allows none")
        return batch


def _lacks(values: pa.Array, field: pa.Field) -> bool:
    """Whether a null is where the field, or one inside it, allows none."""
    if not field.nullable and values.null_count:
        return True
    kind = field.type
    if not _is_strict(kind):
        return False
    if pa.types.is_struct(kind):
        return any(_lacks(child, kind.field(place)) for place, child in enumerate(values.flatten()))
    if pa.types.is_map(kind):
        return bool(_lacks(values.items, kind.item_field))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return bool(_lacks(values.flatten(), kind.value_field))
    return False


def _is_strict(kind: pa.DataType) -> bool:
    inner = [kind.field(place) for place in range(kind.num_fields)]
    return any(not child.nullable or _is_strict(child.type) for child in inner)


# -- heads


def _faults(head: dict[str, Any], count: int) -> dict[int, Fault]:
    given = head.get("faults")
    if not isinstance(given, list):
        raise Garbage("an answer without its faults")
    faults: dict[int, Fault] = {}
    for each in given:
        if not isinstance(each, dict):
            raise Garbage("a fault that is none")
        index = _whole(each, "index")
        if index >= count or index in faults:
            raise Garbage(f"a fault of record {index} of {count}")
        faults[index] = _fault(each)
    return faults


def _fault(head: dict[str, Any]) -> Fault:
    kind = _text(head, "kind")
    if kind not in REASONS:
        raise Garbage(f"a fault of kind {_shown(kind)}")
    return Fault(kind, _text(head, "reason"), _text(head, "traceback"), _text(head, "where"))


def _text(head: dict[str, Any], name: str) -> str:
    text = head.get(name)
    if not isinstance(text, str) or len(text) > TEXT_LIMIT:
        raise Garbage(f"a {name} that is no text, or too long")
    return text


def _whole(head: dict[str, Any], name: str) -> int:
    number = head.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**31:
        raise Garbage(f"a {name} that is no whole number")
    return number


def _seconds(head: dict[str, Any], name: str) -> float:
    number = head.get(name)
    if not isinstance(number, int | float) or isinstance(number, bool) or not 0 <= number < 1e9 or not isfinite(number):
        raise Garbage(f"{name} that are no time")
    return float(number)


def _strain(head: dict[str, Any]) -> float | None:
    return None if head.get("strain") is None else min(1.0, _seconds(head, "strain"))


def _costs(body: memoryview, count: int) -> array[int]:
    costs = array("q")
    if len(body) != count * costs.itemsize:
        raise Garbage(f"{len(body)} bytes of costs for {count} records")
    costs.frombytes(body)
    return array("q", (min(max(1, cost), MOST_COST) for cost in costs))


def _shown(text: str) -> str:
    return repr(text[:40])


# -- Arrow's metadata, as flatbuffers: https://flatbuffers.dev/internals, Message.fbs of Arrow


def _is_compressed(metadata: bytes) -> bool:
    """Whether a message's buffers are: a few bytes could then stand for all the memory there is.

    Arrow's reader has verified the metadata. A dictionary's batch of values is a table within its table.
    """
    message = struct.unpack_from("<I", metadata)[0]
    kind = next(_field(metadata, message, 1, "<B"), 0)
    for header in _table(metadata, message, 2):
        for batch in _table(metadata, header, 1) if kind == 2 else (header,):
            return any(True for _ in _table(metadata, batch, 3))
    return False


def _field(data: bytes, table: int, number: int, form: str) -> Iterator[int]:
    """A field of a table, if it is there."""
    entries = table - struct.unpack_from("<i", data, table)[0]
    size = struct.unpack_from("<H", data, entries)[0]
    place = 4 + 2 * number
    if place + 2 <= size and (offset := struct.unpack_from("<H", data, entries + place)[0]):
        yield struct.unpack_from(form, data, table + offset)[0]


def _table(data: bytes, table: int, number: int) -> Iterator[int]:
    """Where a field's table begins, if it is there."""
    entries = table - struct.unpack_from("<i", data, table)[0]
    size = struct.unpack_from("<H", data, entries)[0]
    place = 4 + 2 * number
    if place + 2 <= size and (offset := struct.unpack_from("<H", data, entries + place)[0]):
        yield table + offset + struct.unpack_from("<I", data, table + offset)[0]
