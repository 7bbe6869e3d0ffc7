"""Ends the process of a task that does not end by itself, for any reason."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Self

log = logging.getLogger("penstock")

LOG_S = 2.0
"""Seconds for the last log line. A log that is no longer read must not keep the process alive."""

DEAF_S = 5.0
"""Further seconds, after which the process ends even if none of its threads runs."""

EXIT_CODE = 1


class LastResort:
    """``with LastResort() as it``: after :meth:`arm`, the block must be left in time, or the process ends.

    It needs no event loop and allocates nothing at the end: its thread runs from the start. The JVM, the bridges and
    the replicas end with this process.
    """

    def __init__(self, end: Callable[[int], object] = os._exit) -> None:
        self._end = end
        self._changed = threading.Condition()
        self._due: float | None = None
        self._reason = ""
        self._over = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._wait, name="last resort", daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()
        if self._due is not None and self._end is os._exit:
            faulthandler.cancel_dump_traceback_later()

    def arm(self, seconds: float, reason: str) -> None:
        """End the process after ``seconds`` if the block has not been left. An earlier deadline stays in force."""
        with self._changed:
            due = time.monotonic() + seconds
            if self._due is not None and self._due <= due:
                return
            self._due, self._reason = due, reason
            self._changed.notify()
        if self._end is os._exit:
            with contextlib.suppress(OSError, RuntimeError):  # no such help where stderr is closed
                faulthandler.dump_traceback_later(seconds + LOG_S + DEAF_S, exit=True, file=2)

    def _wait(self) -> None:
        with self._changed:
            while not self._over:
                left_s = None if self._due is None else self._due - time.monotonic()
                if left_s is not None and left_s <= 0:
                    break
                self._changed.wait(left_s)
            if self._over:
                return
        telling = threading.Thread(target=self._tell, daemon=True)
        with contextlib.suppress(RuntimeError):
            telling.start()
            telling.join(LOG_S)
        self._end(EXIT_CODE)

    def _tell(self) -> None:
        log.critical("ended by force, because the task did not end: %s", self._reason)
