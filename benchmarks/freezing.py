"""Programs that take turns on the same cores: all but one are stopped."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

import psutil

from tests.e2e.rig import kind_of

MIB = 1024 * 1024


class Tree:
    """A process and all that it has started. ``name``, ``others``: what it is, and what is none of a task's parts."""

    def __init__(self, root: psutil.Process, name: str = "host", others: str = "others") -> None:
        self._root = root
        self._names = {"other": others}
        self._name = name

    def processes(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return [self._root, *self._root.children(recursive=True)]
        return []

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """SIGSTOP, then SIGCONT. Shorter than ``kcl.failover_ms``, or its leases are taken for lost."""
        processes = self.processes()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        try:
            yield
        finally:
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        """While it is stopped: it has a turn."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        try:
            yield
        finally:
            for process in self.processes():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()

    def cpu_s(self) -> float:
        """User and system time of those that live."""
        return sum(self.cpu_s_by_kind().values())

    def cpu_s_by_kind(self) -> Counter[str]:
        """The same, by what its processes are: host, jvm, replica, bridge."""
        found: Counter[str] = Counter()
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                kind = self._name if process == self._root else kind_of(process.cmdline())
                found[self._names.get(kind, kind)] += times.user + times.system
        return found

    def pss_mib(self) -> float:
        """Shared pages are shared out among those that share them."""
        total = 0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total / MIB
