"""Workers that are restarted whenever they end, as ECS does with tasks, and their progress."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.e2e.rig import Rig, Worker

LOOK_S = 1.0
RESTART_S = 1.0
"""Seconds until a worker that has ended is replaced."""

LEAVE_S = 130


@dataclass(frozen=True, slots=True)
class End:
    """How a worker ended. ``code``: negative for a signal."""

    code: int
    reason: str
    log: Path


class Crew(threading.Thread):
    """``size`` workers of one configuration. A thread restarts them until :meth:`dismiss`."""

    def __init__(self, rig: Rig, config: Path, size: int) -> None:
        super().__init__(name="crew", daemon=True)
        self.ends: list[End] = []
        self.longest_idle_s = 0.0
        self._rig = rig
        self._config = config
        self._places: list[Worker | None] = [None] * size
        self._empty_s = [float("-inf")] * size
        self._durable: dict[Worker, int] = {}
        self._moved_s: float | None = None
        self._frozen: dict[Worker, list[psutil.Process]] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()

    # -- the workers

    @property
    def working(self) -> list[Worker]:
        """The workers that run and are not frozen."""
        with self._lock:
            return [worker for worker in self._places if worker and self._runs(worker) and worker not in self._frozen]

    @property
    def started(self) -> int:
        return len(self._rig.workers)

    def freeze(self, worker: Worker) -> None:
        """Send SIGSTOP to the worker and all its processes."""
        host = psutil.Process(worker.process.pid)
        with self._lock:
            self._frozen[worker] = [host, *host.children(recursive=True)]
        for process in self._frozen[worker]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self, worker: Worker) -> None:
        for process in self._frozen.get(worker, []):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        with self._lock:
            self._frozen.pop(worker, None)

    def dismiss(self) -> list[End]:
        """Stop restarting workers, ask the running ones to leave, and return how they ended."""
        self._over.set()
        self.join()
        for worker in list(self._frozen):
            self.thaw(worker)
        running = [worker for worker in self._places if worker and self._runs(worker)]
        for worker in running:
            worker.signal(signal.SIGTERM)
        for worker in running:
            worker.process.wait(LEAVE_S)
        return [self._end(worker) for worker in running]

    # -- looking after them

    def run(self) -> None:
        while not self._over.is_set():
            self._fill()
            self._look()
            self._over.wait(LOOK_S)

    def _fill(self) -> None:
        for place, worker in enumerate(self._places):
            if worker is not None and not self._runs(worker):
                self.ends.append(self._end(worker))
                self._empty_s[place] = time.monotonic()
                self._places[place] = None
            if self._places[place] is None and time.monotonic() > self._empty_s[place] + RESTART_S:
                self._places[place] = self._rig.start(self._config)

    def _look(self) -> None:
        """Note that records became durable; the time without progress counts from the first."""
        moved = False
        for worker in self.working:
            durable = self.stats(worker).get("durable", 0)
            moved = moved or durable > self._durable.get(worker, 0)
            self._durable[worker] = max(durable, self._durable.get(worker, 0))
        now = time.monotonic()
        if self._moved_s is not None:
            self.longest_idle_s = max(self.longest_idle_s, now - self._moved_s)
        if moved:
            self._moved_s = now

    @property
    def durable(self) -> int:
        """Number of records that became durable, as reported; without those that a second reader skipped."""
        return sum(self._durable.values())

    @staticmethod
    def stats(worker: Worker) -> dict[str, Any]:
        """The worker's figures; empty if it does not answer."""
        with contextlib.suppress(AssertionError, ValueError, OSError):
            return worker.stats()
        return {}

    @staticmethod
    def _runs(worker: Worker) -> bool:
        return worker.process.poll() is None

    @staticmethod
    def _end(worker: Worker) -> End:
        return End(int(worker.process.returncode), last_error(worker.log), worker.log)


def last_error(log: Path) -> str:
    """The last error that the worker logged; empty if there is none."""
    for line in reversed(log.read_text(errors="replace").splitlines()):
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and entry.get("level") in {"ERROR", "CRITICAL"}:
                return str(entry.get("msg"))
    return ""


def left_behind(endpoint: str, known: Sequence[int]) -> list[str]:
    """Check that no process of this AWS besides ``known`` is left: nothing of a worker outlives it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("AWS_ENDPOINT_URL") == endpoint and process.pid not in known:
                found.append(f"{process.pid} {' '.join(process.cmdline())[:200]}")
    return found
