"""Calls to a store: in threads of the caller's own, and again until they are answered."""

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
"""For a running task. When to give up is the :class:`pipeline.outages.Component`'s to say."""

CHECK = Retry(0.5, tries=5, on=only(Retryable))
"""At start: what passes is waited for, for 7.5 s; a person looks on."""

Call = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Makes a blocking call without blocking the event loop."""


class Threads:
    """Threads of a sink's own: a stalled store takes none from anyone else."""

    def __init__(self, name: str, *, count: int = CALLS_AT_ONCE) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def __call__(self, work: Callable[[], Any]) -> Any:
        """The result of ``work()``, or what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Calls under way end in their own time."""
        self._pool.shutdown(wait=False, cancel_futures=True)


async def at_start(check: Callable[[], None], call: Call, sleep: Callable[[float], Awaitable[object]]) -> None:
    """Make a check that passes at last within :data:`CHECK`.

    :raises UserError: the store still does not answer.
    """
    try:
        await CHECK.call(partial(call, check), sleep=sleep)
    except Retryable as error:
        raise UserError(f"{error}. It must answer before records are taken") from None


class SureCalls:
    """``await surely(work)``: the result of a call to a store, however often the call is made.

    ``part`` is shown as failing meanwhile. Raises ``Denied`` when a refusal lasts, ``Fatal`` when there is no answer
    for as long as ``part`` allows. ``on_retry`` is called before each wait.
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
        """The result of ``work()``."""
        made = partial(self._call, work)
        result: T = await ANSWER.call(made, on_failure=self._failed, sleep=self._sleep, dice=self._dice)
        self._part.worked()
        return result

    async def check(self, check: Callable[[], None]) -> None:
        """As :func:`at_start`."""
        await at_start(check, self._call, self._sleep)

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self._part.worked()

    def _failed(self, error: Exception, wait_s: float) -> None:
        refused = isinstance(error, Denied)
        if self._part.failed(str(error), refused=refused):
            if refused:
                raise error
            raise Fatal(f"{self._part.trouble().lasted_s:.0f} s without an answer: {error}") from None
        log.log(logging.ERROR if refused else logging.WARNING, "%s; again in %.1f s", error, wait_s)
        self._on_retry()
