"""Reaps orphans that this process has adopted, as PID 1 of a container must do (Linux).

What a JVM, a bridge or a keeper leaves behind becomes a child of PID 1, and stays a zombie, which occupies a process
id, until PID 1 waits for it. Processes that this process started are awaited by the code that started them:
:func:`awaits` registers them, and they are never reaped here. Other awaited children, such as those of a library, are
left alone for :data:`LOOKS` looks; an awaited zombie disappears within milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Collection
from typing import NamedTuple

log = logging.getLogger("penstock")

LOOKS = 3
EVERY_S = 2.0
PR_GET_CHILD_SUBREAPER = 37

_awaited: set[int] = set()


class Zombie(NamedTuple):
    """A process that has ended. Process ids are used again; together with ``started`` (clock ticks since boot) they
    are unique.
    """

    pid: int
    started: int


def awaits(pid: int) -> None:
    """Register a child that other code waits for, until :func:`has_ended`."""
    _awaited.add(pid)


def has_ended(pid: int) -> None:
    """The child was waited for; its id may be used again."""
    _awaited.discard(pid)


def adopts() -> bool:
    """Whether orphans become children of this process."""
    if sys.platform != "linux":
        return False
    return os.getpid() == 1 or _is_subreaper()


async def reap(every_s: float = EVERY_S) -> None:
    """Reap orphans every ``every_s`` seconds. Never returns. Start it only where :func:`adopts` is true."""
    orphans, reaped = Orphans(lambda: _awaited), 0
    while True:
        await asyncio.sleep(every_s)
        for pid in orphans.seen(zombies()):
            _wait_for(pid)
            reaped += 1
            if reaped.bit_count() == 1:
                log.info("reaped an orphan: process %d (%d so far)", pid, reaped)


def _wait_for(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


class Orphans:
    """Decides which zombies nothing waits for. Pure."""

    def __init__(self, awaited: Callable[[], Collection[int]]) -> None:
        self._awaited = awaited
        self._seen: dict[Zombie, int] = {}

    def seen(self, zombies: Collection[Zombie]) -> list[int]:
        """Return the ids to reap, given all zombies that are children of this process now."""
        awaited = self._awaited()
        self._seen = {each: self._seen.get(each, 0) + 1 for each in zombies if each.pid not in awaited}
        return [each.pid for each, times in self._seen.items() if times >= LOOKS]


def zombies() -> list[Zombie]:
    """Return the children of this process that have ended and were not waited for, from proc(5)."""
    own = os.getpid()
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:  # out of file descriptors: try again at the next look
        return []
    return [zombie for pid in pids if (zombie := _zombie(pid, own))]


def _zombie(pid: int, parent: int) -> Zombie | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if len(fields) < 20 or fields[0] != b"Z" or int(fields[1]) != parent:
        return None
    return Zombie(pid, int(fields[19]))


def _is_subreaper() -> bool:
    import ctypes

    answer = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    return bool(answer.value)
