"""There is one retry policy, and no module has its own."""

from __future__ import annotations

import ast
import asyncio
import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from pipeline.outages import Outage
from pipeline.retry import Retry, only

ROOT = Path(__file__).parents[2]

ON_A_BEAT = {
    ("consumer/admin/replay/carry_out.py", "_keep"): "a renewal every two seconds, until workers have noticed",
    ("consumer/aws/stream_reader.py", "_pages"): "a page, and the next one",
    ("consumer/http/server.py", "_accept"): "one connection, and the next one",
    ("consumer/leases/handoffs.py", "watch"): "a look at all leases every few seconds",
    ("consumer/leases/watch.py", "watch"): "a look at all leases every few seconds",
    ("consumer/poison/held_leases.py", "_keep"): "a renewal every two seconds, until it is too late",
    ("consumer/slice_task.py", "read"): "a look at all leases every few seconds",
    ("pipeline/model_process/keeper.py", "_sweep"): "until the last process is gone",
}
"""Loops with a pace of their own that does not depend on failures."""


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)


def failing(times: int, error: Exception) -> Callable[[], str]:
    left = [times]

    def work() -> str:
        if left[0]:
            left[0] -= 1
            raise error
        return "done"

    return work


def waits(retry: Retry, most: int = 50) -> list[float]:
    return list(islice(retry.waits(clock=lambda: 0.0, dice=lambda: 0.999999), most))


def test_waits_double_up_to_the_longest() -> None:
    assert waits(Retry(0.5, 8.0, tries=7)) == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]


def test_a_million_failures_later_a_wait_is_still_bounded() -> None:
    assert Retry(0.5, 8.0).wait_s(10**6) == 8.0


def test_jitter_takes_its_share_and_no_more() -> None:
    retry = Retry(10.0, 10.0, jitter=0.5)
    assert retry.wait_s(1, lambda: 0.0) == 5.0
    assert 9.99 < retry.wait_s(1, lambda: 0.999) < 10.0


def test_a_seed_repeats_the_waits() -> None:
    retry = Retry(0.1, 10.0, tries=9, jitter=0.5)
    runs = [list(retry.waits(dice=random.Random(7).random)) for _ in range(2)]
    assert runs[0] == runs[1] and len(set(runs[0])) == 8


def test_the_last_failure_is_raised_once_all_tries_are_made() -> None:
    clock = Clock()
    with pytest.raises(OSError, match="busy"):
        Retry(1.0, tries=3).call_blocking(failing(3, OSError("busy")), sleep=clock.sleep, clock=clock)
    assert clock.slept == [1.0, 2.0]


def test_no_wait_begins_beyond_the_deadline() -> None:
    clock = Clock()
    with pytest.raises(OSError, match="busy"):
        Retry(1.0, 4.0, within_s=8.0).call_blocking(failing(99, OSError("busy")), sleep=clock.sleep, clock=clock)
    assert clock.slept == [1.0, 2.0, 4.0, 4.0]


def test_other_failures_are_raised_at_once() -> None:
    clock = Clock()
    with pytest.raises(KeyError):
        Retry(1.0, on=only(OSError)).call_blocking(failing(1, KeyError("k")), sleep=clock.sleep)
    assert clock.slept == []


def test_each_retried_failure_is_reported_with_its_wait() -> None:
    clock = Clock()
    told = list[tuple[str, float]]()

    def tell(error: Exception, wait_s: float) -> None:
        told.append((str(error), wait_s))

    result = Retry(1.0).call_blocking(failing(2, OSError("busy")), on_failure=tell, sleep=clock.sleep)
    assert result == "done" and told == [("busy", 1.0), ("busy", 2.0)]


def test_the_callback_may_end_the_retries() -> None:
    def enough(error: Exception, wait_s: float) -> None:
        raise ValueError("enough") from error

    with pytest.raises(ValueError, match="enough"):
        Retry(1.0).call_blocking(failing(1, OSError("busy")), on_failure=enough, sleep=Clock().sleep)


def test_in_the_event_loop_it_is_the_same() -> None:
    clock = Clock()
    work, retry = failing(2, OSError("busy")), Retry(1.0, tries=3)

    async def call() -> str:
        return work()

    assert asyncio.run(retry.call(call, sleep=clock.asleep)) == "done"
    work = failing(3, OSError("busy"))
    with pytest.raises(OSError, match="busy"):
        asyncio.run(retry.call(call, sleep=clock.asleep))
    assert clock.slept == [1.0, 2.0, 1.0, 2.0]


@pytest.mark.parametrize(("after", "met"), [(0, True), (2, True), (3, False)])
def test_a_condition_is_asked_for_as_often(after: int, met: bool) -> None:
    clock, retry = Clock(), Retry(1.0, tries=3)
    asked, awaited = iter(range(9)), iter(range(9))

    async def later() -> bool:
        return next(awaited) >= after

    assert retry.until_blocking(lambda: next(asked) >= after, sleep=clock.sleep) is met
    assert asyncio.run(retry.until(later, sleep=clock.asleep)) is met
    assert clock.slept == [1.0, 2.0][:after] * 2


def test_where_tries_take_long_a_wait_is_as_long_as_they_failed_and_never_beyond_the_end() -> None:
    retry = Retry(0.5, 15.0)
    assert retry.wait_in(Outage("model", "", lasted_s=2.0, left_s=100.0)) == 2.5
    assert retry.wait_in(Outage("model", "", lasted_s=60.0, left_s=100.0)) == 15.0
    assert retry.wait_in(Outage("model", "", lasted_s=60.0, left_s=3.0)) == 3.0


def test_functions_that_sleep_between_tries_use_retry() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), function)
        for package in ("consumer", "pipeline")
        for path in sorted((ROOT / package).rglob("*.py"))
        if not {"testing", "local"} & set(path.parts) and path.name != "retry.py"
        for function in loops_that_sleep_and_catch(path.read_text())
    }
    assert found == set(ON_A_BEAT)


def test_a_separate_retry_loop_is_found() -> None:
    loop = "def f():\n  for _ in range(3):\n    try:\n      return g()\n    except OSError:\n      time.sleep(1)\n"
    assert list(loops_that_sleep_and_catch(loop)) == ["f"]


def loops_that_sleep_and_catch(source: str) -> Iterator[str]:
    """Functions with a loop that has both an ``except`` and a call of a function whose name ends in "sleep"."""
    if "sleep" not in source:
        return
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for loop in ast.walk(function):
            inside = list(ast.walk(loop)) if isinstance(loop, ast.For | ast.While | ast.AsyncFor) else []
            calls = [ast.unparse(node.func) for node in inside if isinstance(node, ast.Call)]
            if any(isinstance(node, ast.ExceptHandler) for node in inside) and any(
                name.endswith("sleep") for name in calls
            ):
                yield function.name
                break
