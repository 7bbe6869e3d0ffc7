"""SIGTERM and SIGINT, from the first moment to the last.

The kernel drops a signal that PID 1 has no handler for, where it would end any other process. So there is a handler
before the long imports, and one that outlives each event loop: asyncio's own handlers go with their loop.
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
    """As PID 1, end at SIGTERM as any other process would; until somebody knows of a better way to."""
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))


class Signals:
    """``with Signals() as it``: listens in the block, whatever event loops begin and end in it. Main thread only."""

    def __init__(self) -> None:
        self.heard = False
        self._tell: Callable[[], object] = lambda: None
        self._before: dict[signal.Signals, Any] = {}

    def tell(self, leave: Callable[[], object]) -> None:
        """Have this event loop call ``leave`` at each signal, and soon if there was one already."""
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
        with contextlib.suppress(RuntimeError):  # its event loop is closed: the next one is told
            self._tell()
