"""Calls to a store: in threads of their own, and retried until they are answered."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from pipeline.errors import Fatal, UserError
from pipeline.outages import Component
from pipeline.retry import Dice, Retry, only
from pipeline.stores.base import Denied, Retryable

log = logging.getLogger("sink")

T = TypeVar("T")

CALLS_AT_ONCE = 8

ANSWER = Retry(0.2, 10.0, jitter=0.5, on=only(Retryable, Denied))
"""Retries in a running task. :class:`pipeline.outages.Component` decides when to give up."""

CHECK = Retry(0.5, tries=5, on=only(Retryable))
"""Retries of a check at start, for 7.5 s: a person is waiting."""

Call = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Makes a blocking call without blocking the event loop."""


class Threads:
    """A sink's own threads: a stalled store does not block other parts."""

    def __init__(self, name: str, *, count: int = CALLS_AT_ONCE) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def __call__(self, work: Callable[[], Any]) -> Any:
        """Return the result of ``work()``, or raise what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Take no more calls. Calls in progress end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)


async def at_start(check: Callable[[], None], call: Call, sleep: Callable[[float], Awaitable[object]]) -> None:
    """Make a check, and retry it within :data:`CHECK`.

    :raises UserError: the store still does not answer.
    """
    try:
        await CHECK.call(partial(call, check), sleep=sleep)
    except Retryable as error:
        raise UserError(f"{error}. Make sure that it answers, then start again") from None


class SureCalls:
    """``await surely(work)`` returns the result of a call to a store, however often it has to be made.

    ``part`` is shown as failing meanwhile. ``on_retry`` is called before each wait.

    :raises Denied: a refusal lasts.
    :raises Fatal: there is no answer for as long as ``part`` allows.
    """

    def __init__(
        self,
        call: Call,
        part: Component,
        *,
        on_retry: Callable[[], None] = lambda: None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        dice: Dice = random.random,
    ) -> None:
        self._call = call
        self._part = part
        self._on_retry = on_retry
        self._sleep = sleep
        self._dice = dice

    async def __call__(self, work: Callable[[], T]) -> T:
        """Return the result of ``work()``."""
        made = partial(self._call, work)
        result: T = await ANSWER.call(made, on_failure=self._failed, sleep=self._sleep, dice=self._dice)
        self._part.worked()
        return result

    async def check(self, check: Callable[[], None]) -> None:
        """As :func:`at_start`."""
        await at_start(check, self._call, self._sleep)

    def give_up(self) -> None:
        """Nothing waits for the call any more: do not show it as failing."""
        self._part.worked()

    def _failed(self, error: Exception, wait_s: float) -> None:
        refused = isinstance(error, Denied)
        if self._part.failed(str(error), refused=refused):
            if refused:
                raise error
            raise Fatal(f"{self._part.trouble().lasted_s:.0f} s without an answer: {error}") from None
        log.log(logging.ERROR if refused else logging.WARNING, "%s; again in %.1f s", error, wait_s)
        self._on_retry()
