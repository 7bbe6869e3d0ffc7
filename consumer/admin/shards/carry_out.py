"""Carries out a plan, one call at a time: each once the stream is ACTIVE after the one before.

Before each call the stream is read and planned for again, so whoever calls this after an interruption goes on where it
stopped, and who finds the stream changed by somebody else stops.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from consumer.admin.shards.planner import MergeShards, Refusal, SplitShard, Step, StreamState, Wish, plan
from consumer.admin.shards.recounts import Log
from consumer.aws import shards
from pipeline.errors import PenstockError, RefusedError

log = logging.getLogger("shards")

ACTIVE_S = 3_600.0
"""A stream that is not ACTIVE for so long is told as an error."""

LOOK_S = 1.0
"""Between two looks at a stream's status; DescribeStreamSummary takes 20 calls a second of the whole account."""

BUSY_CODES = frozenset({"LimitExceededException", "ResourceInUseException", "ThrottlingException"})
"""Kinesis takes no such call now: too many streams change at once, or this one has just begun to."""

BUSY_TRIES, BUSY_S = 6, 5.0


@dataclass(frozen=True, slots=True)
class ReshardOutside:
    """What carrying out needs of the world."""

    kinesis: Any
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], object] = time.sleep


def until_active(outside: ReshardOutside, stream: str) -> shards.Summary:
    """Wait for the stream. Raises :class:`PenstockError` after an hour."""
    deadline = outside.clock() + ACTIVE_S
    while (found := shards.summary(outside.kinesis, stream)).status != "ACTIVE":
        if found.status == "DELETING" or outside.clock() > deadline:
            raise PenstockError(f"stream {stream} is still {found.status}. Run the command again to go on")
        outside.sleep(LOOK_S)
    return found


def carry_out(
    outside: ReshardOutside,
    state: Callable[[], StreamState],
    wish: Wish,
    expected: Sequence[Step],
    own: Log,
    identity: str,
    tell: Callable[[Step], None],
) -> None:
    """Make the ``expected`` calls. ``state`` reads the stream; ``tell`` hears of each step that is done.

    :raises RefusedError: the stream is not as the plan has it: somebody else changes it.
    """
    done = busy = 0
    while True:
        now = _done(state(), wish, expected)
        if now is None or now < done:
            raise _changed(state().stream, done, len(expected))
        for step in expected[done:now]:
            tell(step)
        if now == len(expected):
            return
        busy = busy + 1 if now == done else 1
        done = now
        _make(outside, state().stream, expected[done], own, identity, last_try=busy >= BUSY_TRIES)


def _done(state: StreamState, wish: Wish, expected: Sequence[Step]) -> int | None:
    """How many of the steps the stream has behind it; None if it is somewhere else."""
    left = plan(state, wish)
    if isinstance(left, Refusal):
        return len(expected) if left.kind == "nothing" else None
    done = len(expected) - len(left.steps)
    return done if done >= 0 and tuple(expected[done:]) == left.steps else None


def _changed(stream: str, done: int, planned: int) -> RefusedError:
    return RefusedError(
        f"after {done} of {planned} calls stream {stream} is not as the plan has it: somebody else changes its shards. "
        "Nothing more was called; run the command again for a new plan"
    )


def _make(outside: ReshardOutside, stream: str, step: Step, own: Log, identity: str, *, last_try: bool) -> None:
    """Call, and wait until the stream is ACTIVE. A call that Kinesis does not take now is not made, and no error."""
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


def _noted(own: Log, identity: str, step: Step, now_s: float) -> str:
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
    """A limit of the day or of the account does not go by in seconds; that of calls a second does."""
    said = error.response.get("Error", {})
    lasting = ("24 hours", "24-hour", "shard limit", "shard count", "shards")
    return said.get("Code") in BUSY_CODES and not any(word in said.get("Message", "") for word in lasting)


def _call(kinesis: Any, stream: str, step: Step) -> None:
    if isinstance(step, SplitShard):
        shards.split(kinesis, stream, step.shard_id, step.at)
    elif isinstance(step, MergeShards):
        shards.merge(kinesis, stream, step.lower, step.upper)
    else:
        shards.recount(kinesis, stream, step.count)
