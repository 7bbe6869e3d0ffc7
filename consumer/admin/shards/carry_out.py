"""Carries out a plan, one call at a time: each when the stream is ACTIVE again after the previous one.

Before each call the stream is read and planned again. So a call after an interruption continues where it stopped, and a
change of the stream by someone else is noticed and ends it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from consumer.admin.shards.changes import MergeShards, Refusal, ReshardRequest, ReshardStep, SplitShard, StreamState
from consumer.admin.shards.planner import plan
from consumer.admin.shards.recounts import Log
from consumer.aws import shards
from pipeline.errors import PenstockError, RefusedError, counted

log = logging.getLogger("shards")

ACTIVE_S = 3_600.0
"""Seconds after which a stream that is still not ACTIVE is an error."""

LOOK_S = 1.0
"""Seconds between two reads of a stream's status; AWS allows an account 20 calls of DescribeStreamSummary a second."""

BUSY_CODES = frozenset({"LimitExceededException", "ResourceInUseException", "ThrottlingException"})
"""Kinesis refuses the call for now: too many streams change at once, or this one is already changing."""

BUSY_TRIES, BUSY_S = 6, 5.0


@dataclass(frozen=True, slots=True)
class ReshardOutside:
    """The external operations that carrying out a plan needs."""

    kinesis: Any
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], object] = time.sleep


def until_active(outside: ReshardOutside, stream: str) -> shards.Summary:
    """Wait for the stream. Raises :class:`PenstockError` after an hour."""
    deadline = outside.clock() + ACTIVE_S
    while (found := shards.summary(outside.kinesis, stream)).status != "ACTIVE":
        if found.status == "DELETING" or outside.clock() > deadline:
            raise PenstockError(f"stream {stream} is still {found.status}. Run the command again to continue")
        outside.sleep(LOOK_S)
    return found


def carry_out(
    outside: ReshardOutside,
    state: Callable[[], StreamState],
    request: ReshardRequest,
    expected: Sequence[ReshardStep],
    own: Log,
    identity: str,
    tell: Callable[[ReshardStep], None],
) -> None:
    """Make the ``expected`` calls. ``state`` reads the stream; ``tell`` is called with each step that is done.

    :raises RefusedError: the stream differs from the plan, because someone else changes it.
    """
    done = busy = 0
    while True:
        now = _done(state(), request, expected)
        if now is None or now < done:
            raise _changed(state().stream, done, len(expected))
        for step in expected[done:now]:
            tell(step)
        if now == len(expected):
            return
        busy = busy + 1 if now == done else 1
        done = now
        _make(outside, state().stream, expected[done], own, identity, last_try=busy >= BUSY_TRIES)


def _done(state: StreamState, request: ReshardRequest, expected: Sequence[ReshardStep]) -> int | None:
    """How many steps of the plan are done; None if the stream's shards do not match the plan."""
    left = plan(state, request)
    if isinstance(left, Refusal):
        return len(expected) if left.kind == "nothing" else None
    done = len(expected) - len(left.steps)
    return done if done >= 0 and tuple(expected[done:]) == left.steps else None


def _changed(stream: str, done: int, planned: int) -> RefusedError:
    return RefusedError(
        f"after {done} of {counted(planned, 'call')} stream {stream} differs from the plan: someone else changes its "
        "shards. "
        "No more calls were made. Run the command again for a new plan"
    )


def _make(outside: ReshardOutside, stream: str, step: ReshardStep, own: Log, identity: str, *, last_try: bool) -> None:
    """Call, and wait until the stream is ACTIVE. A call that Kinesis refuses for now is not an error."""
    began_s = outside.clock()
    call_id = _noted(own, identity, step, began_s)
    try:
        _call(outside.kinesis, stream, step)
    except ClientError as error:
        _note_end(own, call_id, refused=True)
        if last_try or not _goes_by(error):
            raise
        outside.sleep(BUSY_S)
        until_active(outside, stream)
        return
    until_active(outside, stream)
    _note_end(own, call_id, took_s=outside.clock() - began_s)


def _noted(own: Log, identity: str, step: ReshardStep, now_s: float) -> str:
    try:
        return own.begin(identity, step, now_s)
    except OSError as error:
        log.warning("%s: the call cannot be noted: %s", own.path, error)
        return ""


def _note_end(own: Log, call_id: str, *, took_s: float | None = None, refused: bool = False) -> None:
    if call_id:
        with contextlib.suppress(OSError):
            own.end(call_id, took_s=took_s, refused=refused)


def _goes_by(error: ClientError) -> bool:
    """Whether to try again: the limit of calls per second passes in seconds, those per day and account do not."""
    said = error.response.get("Error", {})
    lasting = ("24 hours", "24-hour", "shard limit", "shard count", "shards")
    return said.get("Code") in BUSY_CODES and not any(word in said.get("Message", "") for word in lasting)


def _call(kinesis: Any, stream: str, step: ReshardStep) -> None:
    if isinstance(step, SplitShard):
        shards.split(kinesis, stream, step.shard_id, step.at)
    elif isinstance(step, MergeShards):
        shards.merge(kinesis, stream, step.lower, step.upper)
    else:
        shards.recount(kinesis, stream, step.count)
