"""Time is simulated here: code that waits in real time fails at once, instead of after minutes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest

from tests.simulation import asked_once


@pytest.fixture(autouse=True)
def no_real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(seconds: float) -> None:
        raise AssertionError(f"time.sleep({seconds:g}) under a simulated clock")

    monkeypatch.setattr(time, "sleep", sleep)


@pytest.fixture(autouse=True)
def the_same_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, known in asked_once.ALL:
        monkeypatch.setattr(module, name, known)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of warnings are expected here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
