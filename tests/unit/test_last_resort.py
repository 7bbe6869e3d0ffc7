"""A task that does not end is ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from consumer.last_resort import EXIT_CODE, LastResort


class Ended:
    def __init__(self) -> None:
        self.codes: list[int] = []
        self._came = threading.Event()

    def __call__(self, code: int) -> None:
        self.codes.append(code)
        self._came.set()

    def came(self, within_s: float) -> bool:
        return self._came.wait(within_s)


@contextmanager
def block() -> Iterator[tuple[LastResort, Ended]]:
    ended = Ended()
    with LastResort(ended) as resort:
        yield resort, ended


def test_a_task_that_does_not_end_in_time_is_ended_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    with block() as (resort, ended):
        resort.arm(0.01, "a drain that hangs")
        assert ended.came(5)
    assert ended.codes == [EXIT_CODE]
    assert "a drain that hangs" in caplog.text


def test_a_task_that_ends_in_time_is_not_touched() -> None:
    with block() as (resort, ended):
        resort.arm(0.2, "in time")
    assert not ended.came(0.4)


def test_an_earlier_end_stands() -> None:
    with block() as (resort, ended):
        resort.arm(60, "asked to leave")
        resort.arm(0.01, "failed")
        resort.arm(60, "asked again")
        assert ended.came(5)


def test_a_log_that_hangs_does_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consumer.last_resort.LOG_S", 0.01)
    monkeypatch.setattr(LastResort, "_tell", lambda self: threading.Event().wait(60))
    with block() as (resort, ended):
        resort.arm(0.01, "whatever")
        assert ended.came(5)
