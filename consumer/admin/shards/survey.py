"""Reads what the planner needs to know about a stream. Blocks. A call that is optional and denied gives unknown."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from consumer.admin.shards.changes import StreamState
from consumer.admin.shards.recounts import DAY_S, Budget, Log, RecountCall, budget
from consumer.aws import cloudtrail, shards
from consumer.aws.shards import Summary
from pipeline.errors import one_line

log = logging.getLogger("shards")

T = TypeVar("T")

Client = Callable[[str], Any]
"""Creates a client of an AWS service."""


@dataclass(frozen=True, slots=True)
class Survey:
    """A stream, and the source of what is known about its calls left."""

    summary: Summary
    state: StreamState
    budget: Budget
    own_calls: tuple[RecountCall, ...]


def identity(summary: Summary) -> str:
    """Identifies the stream, also among earlier ones of the same name."""
    return f"{summary.arn}@{summary.created_s:.0f}"


def survey(client: Client, stream: str, own: Log, clock: Callable[[], float] = time.time) -> Survey:
    """Read everything in :class:`StreamState`. Raises botocore's errors if the stream itself cannot be read."""
    kinesis = client("kinesis")
    summary = shards.summary(kinesis, stream)
    known = shards.known(kinesis, stream)
    now_s = clock()
    calls = own.calls(identity(summary))
    recorded = if_allowed(
        "CloudTrail", lambda: cloudtrail.recounts(client("cloudtrail"), stream, summary.arn, now_s - DAY_S)
    )
    spent = budget(recorded, calls, now_s)
    account_open, account_limit = if_allowed("the account's shards", lambda: shards.account(kinesis)) or (None, None)
    state = StreamState(
        stream,
        known,
        summary.status,
        summary.mode,
        spent.left,
        spent.source,
        f"from {_clock_time(spent.next_s)} on" if spent.next_s else "",
        account_open,
        account_limit,
        summary.arn,
    )
    return Survey(summary, state, spent, tuple(calls))


def shards_now(kinesis: Any, stream: str) -> StreamState:
    """Read the stream alone, without the calls left: enough to see the progress of a plan."""
    summary = shards.summary(kinesis, stream)
    return StreamState(stream, shards.known(kinesis, stream), summary.status, summary.mode, arn=summary.arn)


def if_allowed(what: str, call: Callable[[], T]) -> T | None:
    """The answer; None if AWS gives none, for any reason."""
    try:
        return call()
    except (BotoCoreError, ClientError) as error:
        log.debug("%s cannot be read: %s", what, one_line(error))
        return None


def _clock_time(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
