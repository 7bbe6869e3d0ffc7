"""An event loop on which waiting costs nothing::

with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
    runner.run(main())
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Stuck(AssertionError):
    """Nothing will ever happen again, or a process never stops at one instant."""


class _NoInput(selectors.SelectSelector):
    """A selector without any input: calls ``between`` with the time to wait, before each round."""

    def __init__(self, between: Callable[[float | None], None]) -> None:
        super().__init__()
        self._between = between

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._between(timeout)
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still while anything can run, and then jumps to the next timer.

    It has no sockets, signals or threads. ``run_in_executor``, and everything built on it, makes the call at once in
    this thread; the result arrives ``call_s`` later.

    :raises Stuck: every task waits and no timer runs.
    """

    call_s = 0.0

    def __init__(self) -> None:
        self.now_s = 0.0
        super().__init__(_NoInput(self._between))

    def time(self) -> float:
        """The simulated time, in seconds."""
        return self.now_s

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Make the call after ``call_s`` of simulated time, in this thread."""
        future: asyncio.Future[T] = self.create_future()
        self.call_later(self.call_s, settle, future, partial(func, *args))
        return future

    def _between(self, timeout_s: float | None) -> None:
        if timeout_s is None:
            raise Stuck("every task waits, and no timer runs")
        self.now_s += timeout_s


def settle(future: asyncio.Future[Any], call: Callable[[], Any]) -> None:
    """Make the call, and resolve the future with its result or its error."""
    try:
        result = call()
    except Exception as error:  # noqa: BLE001  # the awaiting code receives any error
        if not future.done():
            future.set_exception(error)
    else:
        if not future.done():
            future.set_result(result)
