"""Programs that take turns on the same cores: all but one are stopped."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

import psutil

from tests.e2e.rig import kind_of

MIB = 1024 * 1024


class Tree:
    """A process and all its descendants. ``name``: of the root; ``others``: of processes that are none of a task's
    parts.
    """

    def __init__(self, root: psutil.Process, name: str = "host", others: str = "others") -> None:
        self._root = root
        self._names = {"other": others}
        self._name = name

    def processes(self) -> list[psutil.Process]:
        """Return the processes that live now."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return [self._root, *self._root.children(recursive=True)]
        return []

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """SIGSTOP, and SIGCONT at the end. Must be shorter than ``kcl.failover_ms``, or its leases expire."""
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
        """Let it run while it is otherwise stopped."""
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
        """User and system time of the processes that live, in seconds."""
        return sum(self.cpu_s_by_kind().values())

    def cpu_s_by_kind(self) -> Counter[str]:
        """As :meth:`cpu_s`, by kind of process: host, jvm, replica, bridge."""
        found: Counter[str] = Counter()
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                kind = self._name if process == self._root else kind_of(process.cmdline())
                found[self._names.get(kind, kind)] += times.user + times.system
        return found

    def pss_mib(self) -> float:
        """Memory in MiB (PSS); a page that several processes share counts in part for each."""
        total = 0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total / MIB
