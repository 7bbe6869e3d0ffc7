"""Time is simulated here: whoever waits for the real one fails at once, instead of after minutes."""

from __future__ import annotations

import time

import pytest


@pytest.fixture(autouse=True)
def no_real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(seconds: float) -> None:
        raise AssertionError(f"time.sleep({seconds:g}) under a simulated clock")

    monkeypatch.setattr(time, "sleep", sleep)
