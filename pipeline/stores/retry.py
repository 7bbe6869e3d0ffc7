"""A call to a store, again and again until it is answered, refused for good, or outlasts the patience with it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pipeline.errors import Fatal, UserError
from pipeline.outages import Component
from pipeline.stores.base import Denied, Retryable

log = logging.getLogger("sink")

T = TypeVar("T")

CALLS_AT_ONCE = 8
FIRST_DELAY_S, LAST_DELAY_S = 0.2, 10.0
CHECK_AGAIN_S = (0.5, 1.0, 2.0, 4.0)
"""Between the tries of a check at start."""

Call = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Makes a blocking call without blocking the event loop."""


class Threads:
    """Threads of a sink's own: a stalled store takes none from anyone else."""

    def __init__(self, name: str, *, count: int = CALLS_AT_ONCE) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def __call__(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Calls under way end in their own time."""
        self._pool.shutdown(wait=False, cancel_futures=True)


async def at_start(check: Callable[[], None], call: Call, sleep: Callable[[float], Awaitable[object]]) -> None:
    """What passes is waited for, some seconds; a store that does not answer then is the user's to mend."""
    for delay_s in CHECK_AGAIN_S:
        try:
            await call(check)
        except Retryable:
            await sleep(delay_s)
        else:
            return
    try:
        await call(check)
    except Retryable as error:
        raise UserError(f"{error}. It must answer before records are taken") from None


class Retry:
    """``await persistence(call)``: the call's result, however often it takes.

    Raises ``Denied`` when a refusal lasts, ``Fatal`` when there is no answer for as long as ``part`` allows. The waits
    between double, with jitter, so that those who wait alike do not come back alike.
    """

    def __init__(
        self,
        call: Call,
        part: Component,
        *,
        on_retry: Callable[[], None] = lambda: None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._call = call
        self._part = part
        self._on_retry = on_retry
        self._sleep = sleep
        self._dice = dice

    async def __call__(self, call: Callable[[], T]) -> T:
        delay_s = FIRST_DELAY_S
        while True:
            try:
                result: T = await self._call(call)
            except Retryable as error:
                if self._part.failed(str(error)):
                    raise Fatal(f"{self._part.trouble().lasted_s:.0f} s without an answer: {error}") from None
                log.warning("%s; again in about %.1f s", error, delay_s)
            except Denied as error:
                if self._part.failed(str(error), refused=True):
                    raise
                log.error("%s; again in about %.1f s", error, delay_s)
            else:
                self._part.worked()
                return result
            self._on_retry()
            await self._sleep(delay_s * (1 + self._dice()) / 2)
            delay_s = min(2 * delay_s, LAST_DELAY_S)

    async def check(self, check: Callable[[], None]) -> None:
        """As :func:`at_start`."""
        await at_start(check, self._call, self._sleep)

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self._part.worked()
