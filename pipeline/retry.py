"""The single retry policy: which failures are retried, how long to wait, and when to give up.

:class:`Retry` is a value. A module that retries has one as a constant, with a comment that explains its numbers. Its
decisions (:meth:`Retry.wait_s`, :meth:`Retry.waits`) are pure. The four methods that sleep (:meth:`Retry.call`,
:meth:`Retry.until`, and their blocking forms) take ``sleep``, ``clock`` and ``dice`` for tests.
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
"""Returns a number in [0, 1): ``random.random``, or that of a seeded ``random.Random``."""

OnFailure = Callable[[Exception, float], object]
"""Called with each failure that is retried, and the seconds until the next try. If it raises, the retries end."""

MOST_DOUBLINGS = 64


def _nobody(error: Exception, wait_s: float) -> None:
    return None


def any_failure(error: Exception) -> bool:
    """Retry every failure."""
    return True


def only(*kinds: type[Exception]) -> Callable[[Exception], bool]:
    """Return a predicate that retries failures of these types only."""
    return lambda error: isinstance(error, kinds)


@dataclass(frozen=True, slots=True)
class Retry:
    """Waits that double from ``first_s`` up to ``last_s``.

    ``jitter``: share of a wait that is random, so that those who fail together do not retry together: with 0.5, a wait
    of 10 s takes between 5 and 10 s. ``tries``: how many, the first included; None: no limit. ``within_s``: after this
    time since the first try, no wait begins. ``on``: which failures are retried; others are raised at once.
    """

    first_s: float
    last_s: float = float("inf")
    tries: int | None = None
    within_s: float = float("inf")
    jitter: float = 0.0
    on: Callable[[Exception], bool] = any_failure

    def wait_s(self, failures: int, dice: Dice = random.random) -> float:
        """Return the seconds to wait after this many failures in a row; the first is 1."""
        return min(self.last_s, self.first_s * 2.0 ** min(failures - 1, MOST_DOUBLINGS)) * self._share(dice)

    def wait_in(self, outage: Outage, dice: Dice = random.random) -> float:
        """Return the seconds to wait where tries themselves take long: ``first_s`` longer than it has failed so far,
        at most ``last_s`` and at most the time that is left.
        """
        return min(outage.left_s, min(self.last_s, self.first_s + outage.lasted_s) * self._share(dice))

    def waits(self, clock: Callable[[], float] = time.monotonic, dice: Dice = random.random) -> Iterator[float]:
        """Yield the wait after each failure; when it ends, give up. Begin it with the first try."""
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
        """Return the result of ``work``; raise its last failure when it is time to give up."""
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
        """As :meth:`call`, for code that blocks."""
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
        """Call ``met`` until it returns True. Return False when it is time to give up. What ``met`` raises is not
        retried.
        """
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
        """As :meth:`until`, for code that blocks."""
        waits = self.waits(clock, dice)
        while not met():
            wait_s = next(waits, None)
            if wait_s is None:
                return False
            sleep(wait_s)
        return True

    def _next(self, waits: Iterator[float], error: Exception, on_failure: OnFailure) -> float | None:
        """Return the next wait, or None if the failure must be raised."""
        wait_s = next(waits, None) if self.on(error) else None
        if wait_s is not None:
            on_failure(error, wait_s)
        return wait_s

    def _share(self, dice: Dice) -> float:
        return 1 - self.jitter * (1 - dice()) if self.jitter else 1.0
