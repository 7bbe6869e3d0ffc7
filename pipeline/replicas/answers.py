"""Checks a replica's answer in full before the host uses it.

A replica runs a model that may have been taken over or may corrupt its memory. Whatever it sends becomes either a
well-formed answer or :class:`pipeline.model_process.frames.Garbage`, never an error in the host. Arrow's reader
verifies a message's metadata, and its full validation the data that the metadata points to.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal, cast

import pyarrow as pa

from pipeline.errors import ModelError, counted, plain
from pipeline.model_process import frames
from pipeline.model_process.frames import Frame, Garbage
from pipeline.record import REASONS, Fault
from pipeline.replicas.arrow_metadata import is_compressed

TEXT_LIMIT = 64 * 1024
"""The most characters of one text in an answer; replicas send fewer."""

FAILURES = frozenset({"failed", "memory", "worn", "broken", "fatal"})

PREDICTS = frozenset({"predict", "example", frames.BESIDE_EXAMPLE})
"""Requests that are answered with rows."""

MOST_COST = 2**62

SUSPICIOUS = (pa.ArrowException, ValueError, OSError, KeyError, IndexError, TypeError, OverflowError, struct.error)
"""Errors that Arrow's reader may raise for bytes that are not Arrow's."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A replica has started. ``pid``: of the process that holds the model. ``seconds``: how long the start took.

    ``schema``: of the rows. ``measures``: the model has its own ``cost``. ``pads``, ``wants_records``, ``closes``: see
    :class:`pipeline.model.loader.UserModel`. ``example_s``: seconds of a warm call with the model's example; None: it
    has none.
    """

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
    """Answer to a predict request. ``batch`` has the rows of the good records, in order. ``faults``: by index, why the
    others have none.

    ``replica``: its number. ``seconds``: how long the call took. ``strain``: as in :class:`Failed`.
    """

    batch: pa.RecordBatch
    faults: dict[int, Fault]
    replica: int
    seconds: float
    strain: float | None = None
    op: Literal["rows"] = "rows"


@dataclass(frozen=True, slots=True)
class Costs:
    """Answer to a measure request: one cost for each record, at least 1. ``faults``: by index, which have none, and
    why.
    """

    costs: array[int]
    faults: dict[int, Fault]
    strain: float | None = None
    op: Literal["costs"] = "costs"


@dataclass(frozen=True, slots=True)
class Failed:
    """The batch failed as a whole. ``op`` is one of :data:`FAILURES`; after ``broken`` the replica is unusable.

    ``strain``: share of its memory limit that the replica uses, from 0 to 1; None if there is no limit.
    """

    op: Literal["failed", "memory", "worn", "broken", "fatal"]
    fault: Fault
    strain: float | None = None


Answer = Rows | Costs | Failed


def ready(frame: Frame) -> Ready:
    """Read the first answer of a replica that started well.

    :raises Garbage: it is malformed.
    """
    head = frame.head
    if frame.op != "ready":
        raise Garbage(f"{_shown(frame.op)} instead of a first answer")
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(frame.body))
    except SUSPICIOUS:
        raise Garbage("an invalid schema") from None
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
        raise Garbage("a first answer that does not describe the model")
    return value


def unusable(frame: Frame) -> ModelError:
    """Read why a model cannot be used, from the first answer of a replica.

    :raises Garbage: it is malformed.
    """
    return ModelError(_text(frame.head, "reason"), _text(frame.head, "traceback"))


@dataclass(frozen=True, slots=True)
class AnswerReader:
    """Reads the answers of replicas whose rows have this schema."""

    schema: pa.Schema
    _start: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_start", self.schema.serialize().to_pybytes())

    def read(self, frame: Frame, asked: str, count: int) -> Answer:
        """Read the answer to a request ``asked`` for ``count`` records.

        :raises Garbage: it is malformed, or not an answer to that request.
        """
        if frame.op in FAILURES and asked in PREDICTS:
            op = cast("Literal['failed', 'memory', 'worn', 'broken', 'fatal']", frame.op)
            return Failed(op, _fault(frame.head), _strain(frame.head))
        if frame.op == "rows" and asked in PREDICTS:
            faults = _faults(frame.head, count)
            batch = self._batch(frame.body)
            if batch.num_rows + len(faults) != count:
                came = f"{counted(batch.num_rows, 'row')} and {counted(len(faults), 'fault')}"
                raise Garbage(f"{came} for {counted(count, 'record')}")
            return Rows(
                batch, faults, _whole(frame.head, "replica"), _seconds(frame.head, "seconds"), _strain(frame.head)
            )
        if frame.op == "costs" and asked == "measure":
            return Costs(_costs(frame.body, count), _faults(frame.head, count), _strain(frame.head))
        raise Garbage(f"{_shown(frame.op)} for a {asked}")

    def _batch(self, body: memoryview) -> pa.RecordBatch:
        """Read the single batch of a stream that must begin with the known schema, byte for byte: no other schema is
        ever parsed.
        """
        if bytes(body[: len(self._start)]) != self._start:
            raise Garbage("rows of another schema")
        try:
            data = pa.py_buffer(body)
            for message in pa.ipc.MessageReader.open_stream(data):
                if message.type != "schema" and is_compressed(message.metadata.to_pybytes()):
                    raise Garbage("compressed rows")
            with pa.ipc.open_stream(data) as stream:
                if (batch := next(iter(stream), None)) is None:
                    raise Garbage("no batch")
                if next(iter(stream), None) is not None:
                    raise Garbage("more than one batch")
            batch.validate(full=True)
        except SUSPICIOUS as error:
            raise Garbage(f"rows that Arrow cannot read: {plain(' '.join(str(error).split()), 200)}") from None
        if batch.schema != self.schema:
            raise Garbage("rows of another schema")
        if any(_lacks(column, field) for column, field in zip(batch.columns, self.schema, strict=True)):
            raise Garbage("null where the output_schema does not allow it")
        return batch


def _lacks(values: pa.Array, field: pa.Field) -> bool:
    """Whether there is a null where the field, or a field inside it, is not nullable."""
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
            raise Garbage("an invalid fault")
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
        raise Garbage(f"a {name} that is not text, or too long")
    return text


def _whole(head: dict[str, Any], name: str) -> int:
    number = head.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**31:
        raise Garbage(f"a {name} that is not a whole number")
    return number


def _seconds(head: dict[str, Any], name: str) -> float:
    number = head.get(name)
    if not isinstance(number, int | float) or isinstance(number, bool) or not 0 <= number < 1e9 or not isfinite(number):
        raise Garbage(f"{name} that are not a time")
    return float(number)


def _strain(head: dict[str, Any]) -> float | None:
    return None if head.get("strain") is None else min(1.0, _seconds(head, "strain"))


def _costs(body: memoryview, count: int) -> array[int]:
    costs = array("q")
    if len(body) != count * costs.itemsize:
        raise Garbage(f"{len(body)} bytes of costs for {counted(count, 'record')}")
    costs.frombytes(body)
    return array("q", (min(max(1, cost), MOST_COST) for cost in costs))


def _shown(text: str) -> str:
    return repr(text[:40])
