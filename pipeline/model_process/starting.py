"""A replica's start: find the model, load it, warm it up."""

from __future__ import annotations

import logging
import os
import sys
import time

from pipeline.errors import ModelError, is_a, one_line, plain, said, text_of
from pipeline.machine import gpus
from pipeline.model import LoadContext
from pipeline.model.arrow_columns import Rules
from pipeline.model.arrow_rows import RowMaker
from pipeline.model.loader import UserModel, find
from pipeline.model_process import frames, memory_limit
from pipeline.model_process.assignment import Assignment
from pipeline.model_process.worker import (
    NOT_A_RECORD,
    REASON_LIMIT,
    Chunks,
    FailedAnswer,
    Measuring,
    Predicting,
    RequestHandler,
)
from pipeline.tracebacks import TRACEBACK_LIMIT, model_error

log = logging.getLogger("model")


def start(assignment: Assignment) -> tuple[Chunks, RequestHandler | None]:
    """Find the model, load it and warm it up. Returns the first answer, and the worker if the model is usable. Never
    raises.
    """
    began = time.monotonic()
    example_s = None
    try:
        model = find(assignment.factory, assignment.search_path, assignment.passthrough)
        rules = Rules(missing=assignment.missing, not_finite=assignment.not_finite)
        rows = RowMaker(model.output_schema, assignment.passthrough, rules, model=assignment.factory)
        work: RequestHandler = (
            Measuring(model)
            if assignment.role == "measure"
            else Predicting(model, rows, assignment.number, assignment.stream)
        )
        if isinstance(work, Predicting):
            rows.make([], [])  # pyarrow imports pandas with its first array: do it now, not in the first batch
            _load(model, assignment)
        if assignment.memory_mib:
            log.info("%s", memory_limit.confine(assignment.memory_mib))
        if isinstance(work, Predicting):
            example_s = _warm_up(model, work)
    except BaseException as error:  # noqa: BLE001  # the user's code: the host hears of anything it raises
        return _unusable(assignment, error), None
    seconds = time.monotonic() - began
    head = {
        "measures": model.measures,
        "pads": model.pads,
        "wants_records": model.wants_records,
        "closes": model.closes and assignment.role == "predict",
        "seconds": seconds,
        "example_s": example_s,
        "pid": os.getpid(),
    }
    return frames.pack("ready", head, [rows.schema.serialize().to_pybytes()]), work


def _unusable(assignment: Assignment, error: BaseException) -> Chunks:
    """The first answer if the model cannot be used: the reason, and the traceback of the model's own exception."""
    told = error if is_a(error, ModelError) else model_error(f"model.factory {assignment.factory}", error)
    reason = said(told) or f"model.factory {assignment.factory}: {one_line(told)} without a text"
    traceback = text_of(told.traceback, TRACEBACK_LIMIT) if type(told) is ModelError else ""  # or a user's subclass
    return frames.pack("unusable", {"reason": plain(reason, REASON_LIMIT), "traceback": traceback})


def _load(model: UserModel, assignment: Assignment) -> None:
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(assignment.threads)
    context = LoadContext(
        options=assignment.options,
        threads=assignment.threads,
        replica=assignment.number,
        device=gpus.place(assignment.device, assignment.number, gpus.count()),
        version=assignment.version,
    )
    try:
        model.load(context)
    except ModelError:
        raise
    except BaseException as error:
        raise model_error(f"model.factory {model.name}: load failed", error) from error


def _warm_up(model: UserModel, work: Predicting) -> float | None:
    """Predict the model's example twice, so that the first batch is as fast as later ones. Return the second call's
    seconds.

    The first call includes work that a model postpones until then. None: the model has no example.
    """
    try:
        item = model.example()
    except ModelError:
        raise
    except BaseException as error:
        raise model_error(f"model.factory {model.name}: example failed", error) from error
    if item is None:
        return None
    try:
        model.cost_of(item)
    except BaseException as error:
        raise model_error(f"model.factory {model.name}: the cost of its own example failed", error) from error
    seconds = 0.0
    for _ in range(2):
        began = time.monotonic()
        answer = work.predict_items([item], [work.nothing_carried], [NOT_A_RECORD])
        seconds = time.monotonic() - began
        fault = answer.fault if isinstance(answer, FailedAnswer) else answer.faults.get(0)
        if fault is not None:
            place = fault.where.partition(" at ")[2]
            text = f"model.factory {model.name}: its own example failed: {fault.reason}"
            raise ModelError(f"{text} ({place})" if place else text, fault.traceback)
    return seconds
