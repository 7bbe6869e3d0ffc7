"""Waits for a stream of the local AWS, whose changes take 0.3 s."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

LOOK_S = 0.05
"""A look costs client and server some milliseconds of the processor each."""


def until(condition: Callable[[], Any], what: str, deadline_s: float = 15) -> Any:
    """Return the first value of ``condition()`` that is true. Fails with ``what`` after ``deadline_s``."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(LOOK_S)  # between two looks at a condition
    raise AssertionError(f"not within {deadline_s} s: {what}")


def active(kinesis: Any, name: str) -> None:
    """Wait until the stream is created, or changed."""
    summary = kinesis.describe_stream_summary
    until(lambda: summary(StreamName=name)["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE", f"{name} is active")
