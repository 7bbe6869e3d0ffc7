"""Watches a replica's process from the host: its end, and its output."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import subprocess
from collections.abc import Callable

from pipeline import background, reaper

log = logging.getLogger("replica")

UNWATCHED = 1
"""Reported as the exit code of a process whose watching thread failed."""

LEVELS = {b"<2>": logging.CRITICAL, b"<3>": logging.ERROR, b"<4>": logging.WARNING, b"<7>": logging.DEBUG}
LINE_LIMIT_BYTES = 16 * 1024


class LogLines(asyncio.Protocol):
    """Logs what a replica prints, line by line."""

    def __init__(self, number: int, on_end: Callable[[], None]) -> None:
        self._extra = {"replica": number}
        self._on_end = on_end
        self._line = b""

    def data_received(self, data: bytes) -> None:
        """Log the complete lines."""
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > LINE_LIMIT_BYTES:
            lines.append(self._line)
            self._line = b""
        for line in lines:
            self._write(line)

    def connection_lost(self, exc: Exception | None) -> None:
        """Log the rest, and report the end."""
        if self._line:
            self._write(self._line)
        self._on_end()

    def _write(self, line: bytes) -> None:
        level = LEVELS.get(line[:3], logging.INFO)
        text = line[3:] if line[:1] == b"<" and line[2:3] == b">" else line
        log.log(level, "%s", text[:LINE_LIMIT_BYTES].decode("utf-8", "backslashreplace"), extra=self._extra)


class ProcessWatch:
    """Waits for a process in a thread. The thread is started before the process: without it, no process is started."""

    def __init__(self, loop: asyncio.AbstractEventLoop, exited: Callable[[int], None]) -> None:
        self._loop = loop
        self._exited = exited
        self._process: queue.SimpleQueue[subprocess.Popen[bytes] | None] = queue.SimpleQueue()
        background.thread(self._wait, name="the watcher of a replica", on_failure=lambda error: exited(UNWATCHED))

    def begin(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for this process."""
        reaper.awaits(process.pid)
        self._process.put(process)

    def give_up(self) -> None:
        """No process was started."""
        self._process.put(None)

    def _wait(self) -> None:
        if process := self._process.get():
            status = process.wait()
            reaper.has_ended(process.pid)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing waits any more
                self._loop.call_soon_threadsafe(self._exited, status)
