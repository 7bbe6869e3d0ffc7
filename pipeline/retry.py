"""The one policy for whatever is tried again: which failures, how long to wait between the tries, and when to give up.

:class:`Retry` is a value; a module that retries has one as a constant, and a comment that says why these numbers. Its
decisions (:meth:`Retry.wait_s`, :meth:`Retry.waits`) are pure. The four calls at the edge (:meth:`Retry.call`,
:meth:`Retry.until`, and the same for code that blocks) sleep, and take a ``sleep``, a ``clock`` and ``dice`` for tests.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from pipeline.outages import Outage

T = TypeVar("T")

Dice = Callable[[], float]
"""A number in [0, 1): ``random.random``, or that of a ``random.Random`` with a seed."""

OnFailure = Callable[[Exception, float], object]
"""Told of each failure that is tried again, and how many seconds later. What it raises ends the retries."""

MOST_DOUBLINGS = 64


def _nobody(error: Exception, wait_s: float) -> None:
    return None


def any_failure(error: Exception) -> bool:
    """Every failure is tried again."""
    return True


def only(*kinds: type[Exception]) -> Callable[[Exception], bool]:
    """Failures of these types are tried again."""
    return lambda error: isinstance(error, kinds)


@dataclass(frozen=True, slots=True)
class Retry:
    """Waits double from ``first_s`` up to ``last_s``.

    ``jitter`` is the share of a wait that is left to chance, so that those who fail together do not come back together:
    with 0.5, a wait of 10 s takes between 5 and 10 s. ``tries`` counts the first one; None: without end. No wait begins
    ``within_s`` after the first try or later. ``on`` says which failures are tried again; others are raised at once.
    """

    first_s: float
    last_s: float = float("inf")
    tries: int | None = None
    within_s: float = float("inf")
    jitter: float = 0.0
    on: Callable[[Exception], bool] = any_failure

    def wait_s(self, failures: int, dice: Dice = random.random) -> float:
        """The wait after so many failures in a row, the first being 1."""
        return min(self.last_s, self.first_s * 2.0 ** min(failures - 1, MOST_DOUBLINGS)) * self._share(dice)

    def wait_in(self, outage: Outage, dice: Dice = random.random) -> float:
        """The wait where tries take long themselves: ``first_s`` longer than it has failed so far, up to ``last_s``,
        and never beyond the time that is left."""
        return min(outage.left_s, min(self.last_s, self.first_s + outage.lasted_s) * self._share(dice))

    def waits(self, clock: Callable[[], float] = time.monotonic, dice: Dice = random.random) -> Iterator[float]:
        """The wait after each failure; at the end it is time to give up. Begin it with the first try."""
        began, failures = clock(), 1
        while (self.tries is None or failures < self.tries) and clock() - began < self.within_s:
            yield self.wait_s(failures, dice)
            failures += 1

    async def call(
        self,
        work: Callable[[], Awaitable[T]],
        *,
        on_failure: OnFailure = _nobody,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        dice: Dice = random.random,
    ) -> T:
        """The result of ``work``; the last failure once it is time to give up."""
        waits = self.waits(clock, dice)
        while True:
            try:
                return await work()
            except Exception as error:
                wait_s = self._next(waits, error, on_failure)
                if wait_s is None:
                    raise
            await sleep(wait_s)

    def call_blocking(
        self,
        work: Callable[[], T],
        *,
        on_failure: OnFailure = _nobody,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        dice: Dice = random.random,
    ) -> T:
        """As :meth:`call`, in a thread."""
        waits = self.waits(clock, dice)
        while True:
            try:
                return work()
            except Exception as error:
                wait_s = self._next(waits, error, on_failure)
                if wait_s is None:
                    raise
            sleep(wait_s)

    async def until(
        self,
        met: Callable[[], Awaitable[bool]],
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        dice: Dice = random.random,
    ) -> bool:
        """Ask until the answer is yes; false once it is time to give up. What ``met`` raises is raised."""
        waits = self.waits(clock, dice)
        while not await met():
            wait_s = next(waits, None)
            if wait_s is None:
                return False
            await sleep(wait_s)
        return True

    def until_blocking(
        self,
        met: Callable[[], bool],
        *,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        dice: Dice = random.random,
    ) -> bool:
        """As :meth:`until`, in a thread."""
        waits = self.waits(clock, dice)
        while not met():
            wait_s = next(waits, None)
            if wait_s is None:
                return False
            sleep(wait_s)
        return True

    def _next(self, waits: Iterator[float], error: Exception, on_failure: OnFailure) -> float | None:
        """None: the failure is to be raised."""
        wait_s = next(waits, None) if self.on(error) else None
        if wait_s is not None:
            on_failure(error, wait_s)
        return wait_s

    def _share(self, dice: Dice) -> float:
        return 1 - self.jitter * (1 - dice()) if self.jitter else 1.0
