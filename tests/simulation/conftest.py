"""Time is simulated here: code that waits in real time fails at once, instead of after minutes; so does a real thread,
whose end depends on the machine.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import pytest

from tests.simulation import asked_once


@pytest.fixture(autouse=True)
def no_real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(seconds: float) -> None:
        raise AssertionError(f"time.sleep({seconds:g}) under a simulated clock")

    def start(thread: threading.Thread) -> None:
        raise AssertionError(f"thread {thread.name} under a simulated clock")

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(threading.Thread, "start", start)


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
