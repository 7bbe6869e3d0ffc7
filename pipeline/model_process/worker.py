"""Answers a replica's requests: decode, predict and convert; or decode and measure costs.

A record's failure is reported for that record alone wherever it can be told apart from the batch's.
"""

from __future__ import annotations

import logging
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from pipeline.dead_letters.redaction import where
from pipeline.errors import BatchFailed, Fatal, UserError, is_a, one_line, plain, said, text_of
from pipeline.model import RecordInfo, Reject, reason_of
from pipeline.model.arrow_rows import Inconvertible, Row, RowMaker
from pipeline.model.loader import UserModel
from pipeline.model.results import Columns, taken
from pipeline.model_process import frames, memory_limit
from pipeline.record import About, Fault, record_id
from pipeline.tracebacks import TRACEBACK_LIMIT, traced

log = logging.getLogger("model")

Chunks = list[Any]

NOT_A_RECORD = RecordInfo("", "", None, 0)
"""Passed with the model's own example."""

REASON_LIMIT = 1_000
"""Characters of a reason that a dead letter keeps: a model may put whole payloads into its exceptions."""

TEXTS_LIMIT = frames.HEAD_LIMIT_BYTES // 16
"""Characters of all tracebacks in one answer. A character takes up to 6 bytes in JSON, and reasons may be as long."""


END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
"""The last bytes of Arrow's stream format, after the schema and the batch."""


class RequestHandler(Protocol):
    """Answers requests. ``usable`` turns False if the process must not answer another one."""

    usable: bool

    def answer(self, frame: frames.Frame) -> Chunks:
        """Return the packed answer to a request."""
        ...


@dataclass(slots=True)
class PredictedRows:
    """``batch`` has the rows of the good records, in order. ``faults``: by index in the request, which have no row,
    and why.
    """

    batch: pa.RecordBatch
    faults: dict[int, Fault]


@dataclass(slots=True)
class FailedAnswer:
    """The batch failed as a whole. ``op``: ``failed``, ``memory``, ``worn``, ``broken`` or ``fatal``.

    After ``worn`` and ``broken`` the replica must be replaced. ``worn``: memory ran out for a single record, in a
    replica that has predicted before. Memory that it has not freed since then may be the cause.
    """

    op: str
    fault: Fault


class Predicting:
    """Predicts: payloads in; rows, and a fault for each record without a row, out."""

    def __init__(self, model: UserModel, rows: RowMaker, replica: int = 0, stream: str = "") -> None:
        self.usable = True
        self._replica = replica
        self._stream = stream
        self._model = model
        self._rows = rows
        self._start = rows.schema.serialize().to_pybytes()
        self._is_new = True
        self.nothing_carried: Row = rows.nothing_carried

    def answer(self, frame: frames.Frame) -> Chunks:
        """Answer ``predict``, ``predict beside example``, ``example`` or ``close``.

        :raises Exception: an error of this code, not of the model's: the process must end.
        """
        began = time.monotonic()
        if frame.op == "close":
            return self._closed()
        payloads = frames.payloads(frame)
        if frame.op == "example":
            return self._answered_example(began)
        was_new, self._is_new = self._is_new, False
        beside = frame.op == frames.BESIDE_EXAMPLE
        try:
            records = [_info(self._stream, about) for about in frames.abouts(frame)]
            outcome = self.predict(payloads, records, beside_example=beside)
            if isinstance(outcome, PredictedRows):
                return self._packed(outcome, began)
        except Exception as error:
            if not memory_limit.ran_out(error):
                raise
            outcome = failure_of(error)
        if outcome.op == "failed" and memory_limit.is_short():
            outcome.op = "memory"
        if outcome.op == "memory" and len(payloads) == 1 and not was_new:
            outcome.op = "worn"
        self.usable = outcome.op not in {"broken", "worn"}
        return frames.pack(outcome.op, _portable(outcome.fault))

    def _answered_example(self, began: float) -> Chunks:
        """Predict the model's example, to show whether this replica still works. Only called if the model has one."""
        outcome = self.predict([], beside_example=True)
        if isinstance(outcome, PredictedRows):
            return self._packed(outcome, began)
        return frames.pack(outcome.op, _portable(outcome.fault))

    def _closed(self) -> Chunks:
        self.usable = False
        try:
            self._model.close()
        except BaseException as error:  # noqa: BLE001  # the user's code: nothing depends on its result
            log.error("the model's close() failed\n%s", traced(error, TRACEBACK_LIMIT))
        return frames.pack("closed")

    def _packed(self, outcome: PredictedRows, began: float) -> Chunks:
        faults = _all_portable(outcome.faults)
        head = {"faults": faults, "replica": self._replica, "seconds": time.monotonic() - began}
        return frames.pack("rows", head, [self._start, memoryview(outcome.batch.serialize()), END_OF_STREAM])

    def predict(
        self, payloads: Sequence[bytes], records: Sequence[RecordInfo] = (), *, beside_example: bool = False
    ) -> PredictedRows | FailedAnswer:
        """Decode and predict. Records that do not decode are left out of the batch that the model receives.

        ``records``: empty if the model does not ask for them. ``beside_example``: the model's example is the last item.

        :raises Exception: memory ran out before ``predict`` was called, so the whole batch failed
            (:func:`memory_limit.ran_out`).
        """
        faults: dict[int, Fault] = {}
        indices: list[int] = []
        items: list[Any] = []
        passthrough: list[Row] = []
        for index, payload in enumerate(payloads):
            try:
                item = self._model.decode(payload)
                passthrough.append(self._rows.passthrough(item, payload, reads_json=self._model.reads_json))
            except BaseException as error:
                if memory_limit.ran_out(error):
                    raise
                faults[index] = fault_of(error, "decode")
                continue
            items.append(item)
            indices.append(index)
        told = [records[index] for index in indices] if records else []
        if beside_example:
            try:
                items.append(self._model.example())
            except BaseException as error:  # noqa: BLE001  # the user's code: without an example nothing is shown
                return failure_of(error)
            passthrough.append(self.nothing_carried)
            indices.append(len(payloads))
            told.append(NOT_A_RECORD)
        made = self.predict_items(items, passthrough, told)
        if isinstance(made, FailedAnswer):
            return made
        faults.update((indices[position], fault) for position, fault in made.faults.items())
        return PredictedRows(made.batch, faults)

    def predict_items(
        self, items: list[Any], passthrough: list[Row], records: Sequence[RecordInfo] = ()
    ) -> PredictedRows | FailedAnswer:
        """As :meth:`predict`, for decoded items and their carried fields."""
        try:
            made = self._rows.make(passthrough, self._results(items, records) if items else [])
        except BaseException as error:  # noqa: BLE001  # the user's code: even sys.exit() concerns this batch only
            return failure_of(error)
        return PredictedRows(made.batch, made.faults)

    def _results(self, items: list[Any], records: Sequence[RecordInfo]) -> list[Any] | Columns:
        """Call the model with a list of its own: if it changes the list, the records keep their places."""
        try:
            return taken(self._model.predict(list(items), list(records)), len(items), self._rows.names)
        except Reject as refusal:
            if len(items) > 1:
                raise
            return [refusal]


class Measuring:
    """Measures: payloads in; costs, and a fault for each record without a cost, out."""

    def __init__(self, model: UserModel) -> None:
        self.usable = True
        self._model = model

    def answer(self, frame: frames.Frame) -> Chunks:
        """Decode and measure each payload. A record whose ``decode`` or ``cost`` raises has cost 0 and a fault."""
        costs = array("q")
        faults: dict[int, Fault] = {}
        for index, payload in enumerate(frames.payloads(frame)):
            try:
                costs.append(self._model.cost_of(self._model.decode(payload)))
            except BaseException as error:  # noqa: BLE001  # the user's code: any error concerns this record only
                costs.append(0)
                faults[index] = fault_of(error, "memory" if memory_limit.ran_out(error) else "decode")
        return frames.pack("costs", {"faults": _all_portable(faults)}, [costs.tobytes()])


def _info(stream: str, about: About) -> RecordInfo:
    shard_id, key, sequence, sub, arrived_ms = about
    return RecordInfo(record_id(stream, shard_id, sequence, sub), shard_id, key, arrived_ms)


def fault_of(error: BaseException, kind: str) -> Fault:
    """Return the fault for an error: a ``Reject``'s reason, or the error with its traceback. Never raises."""
    if is_a(error, Reject):
        return Fault("rejected" if kind == "exception" else kind, reason_of(error), where=where(error))
    return Fault(kind, one_line(error), traced(error, TRACEBACK_LIMIT), where(error))


def failure_of(error: BaseException) -> FailedAnswer:
    """Return the failure of a batch for an error. Never raises."""
    if is_a(error, Fatal, UserError):
        return FailedAnswer("fatal", Fault("exception", said(error) or one_line(error)))
    if type(error) is BatchFailed:
        return FailedAnswer(
            "failed", Fault("contract", text_of(error.reason), text_of(error.traceback, TRACEBACK_LIMIT))
        )
    if is_a(error, Inconvertible):
        return FailedAnswer("failed", Fault("contract", f"the rows do not fit one Arrow batch: {said(error)}"))
    if memory_limit.ran_out(error):
        fault = fault_of(error, "memory")
        memory_limit.give_back(error)
        return FailedAnswer("memory", fault)
    return FailedAnswer("broken" if _lost_its_device(error) else "failed", fault_of(error, "exception"))


def _lost_its_device(error: BaseException) -> bool:
    """Whether the device failed: after an assertion or fault on it, every later call of the process fails for any
    record.
    """
    return is_a(error, RuntimeError) and "CUDA error" in text_of(error, memory_limit.READ_LIMIT)


def _portable(fault: Fault, most: int = TRACEBACK_LIMIT) -> dict[str, str]:
    """The fault as JSON. ``most``: characters of its traceback, and of its reason."""
    return {
        "kind": fault.kind,
        "reason": plain(fault.reason, min(most, REASON_LIMIT)),
        "traceback": plain(fault.traceback, most),
        "where": fault.where,
    }


def _all_portable(faults: Mapping[int, Fault]) -> list[dict[str, Any]]:
    """The faults of a batch as JSON; together they stay within an answer's limit."""
    most = min(TRACEBACK_LIMIT, TEXTS_LIMIT // max(1, len(faults)))
    return [{"index": index, **_portable(fault, most)} for index, fault in faults.items()]
