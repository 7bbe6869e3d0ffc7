"""Time is simulated here: code that waits in real time fails at once, instead of after minutes."""

from __future__ import annotations

import time
from functools import lru_cache

import pytest

from pipeline.table import audit, contents, schema

_tried = lru_cache(maxsize=16)(schema._tried)
_read = lru_cache(maxsize=512)(contents.read)


@pytest.fixture(autouse=True)
def no_real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(seconds: float) -> None:
        raise AssertionError(f"time.sleep({seconds:g}) under a simulated clock")

    monkeypatch.setattr(time, "sleep", sleep)


@pytest.fixture(autouse=True)
def the_same_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file's bytes contain, and whether Parquet holds a schema, depends on nothing else, so it is cached: a
    third of the time."""
    monkeypatch.setattr(schema, "_tried", _tried)
    monkeypatch.setattr(audit, "read", _read)
