"""SIGTERM and SIGINT, from the start of the process to its end.

The kernel ignores a signal to PID 1 that has no handler; any other process would end. So a handler is installed before
the slow imports, and another one outlives each event loop, unlike the handlers of asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, Self

ASK_TO_LEAVE = (signal.SIGTERM, signal.SIGINT)


def before_all() -> None:
    """If this process is PID 1, make SIGTERM end it, until :class:`Signals` takes over."""
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))


class Signals:
    """``with Signals() as it``: handles signals in the block, across event loops. Main thread only."""

    def __init__(self) -> None:
        self.heard = False
        self._tell: Callable[[], object] = lambda: None
        self._before: dict[signal.Signals, Any] = {}

    def tell(self, leave: Callable[[], object]) -> None:
        """Make the running event loop call ``leave`` at each signal, and at once if there was one already."""
        self._tell = partial(asyncio.get_running_loop().call_soon_threadsafe, leave)
        if self.heard:
            self._tell()

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._hear) for number in ASK_TO_LEAVE}
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.heard = True
        with contextlib.suppress(RuntimeError):  # its event loop is closed; the next one gets the signal
            self._tell()
