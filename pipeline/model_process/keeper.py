"""A small process between the host and a replica. It ends when the replica ends, and kills all processes the replica
left.

A model may start processes, and those may start others, in sessions of their own. When their parent ends, they would
live on. On Linux the keeper adopts them (``PR_SET_CHILD_SUBREAPER``, prctl(2)): after the replica's end it kills its
own children and waits for them, until none is left. The keeper forks the replica before anything is imported, so it
needs about 5 MiB and can never kill another process's children. On other systems it kills the replica's process group;
processes that have left the group survive.

Standard library only. Started by :mod:`pipeline.replicas.process` alone.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

WATCHED = {signal.SIGTERM, signal.SIGCHLD}
SWEEP_S = 5.0
"""Seconds after which processes that cannot be killed (of another user, or stuck in the kernel) are left behind."""
PAUSE_S = 0.005


def main() -> None:
    """Run the keeper. Arguments: the socket's file descriptor and the host's process id. On SIGTERM it ends
    everything.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _adopt(int(sys.argv[-1]))
    own = os.getpid()
    replica = os.fork()
    if replica == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        os.setsid()
        sys.argv[-1] = str(own)
        from pipeline.model_process.main import main as serve

        serve()
        return
    _let_go(int(sys.argv[-2]))
    status = _watched(replica)
    _sweep(replica)
    _end_as(status)


def _adopt(host: int) -> None:
    if sys.platform == "linux":
        import ctypes

        prctl = ctypes.CDLL(None).prctl
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != host:
        os._exit(0)  # the host died before the call


def _let_go(connection: int) -> None:
    """Close our copies, so that the socket and the log close when the replica closes its own."""
    os.close(connection)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def _watched(replica: int) -> int:
    """Wait for the replica to end, kill it on SIGTERM, and return its wait status."""
    while True:
        if signal.sigwait(WATCHED) == signal.SIGTERM:
            os.kill(replica, signal.SIGKILL)
        while (ended := _reaped()) is not None:
            if ended[0] == replica:
                return ended[1]


def _reaped() -> tuple[int, int] | None:
    """Reap a child that has ended and return its id and status; None if there is none now."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _sweep(replica: int) -> None:
    """Kill the processes that the replica left, and those that they leave, until none is left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(replica, signal.SIGKILL)
    deadline = time.monotonic() + SWEEP_S
    while time.monotonic() < deadline:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(PAUSE_S)


def _children() -> list[int]:
    """The ids of this process's children, from proc(5); empty on other systems."""
    own = os.getpid()
    children = []
    for name in os.listdir("/proc") if sys.platform == "linux" else ():
        if name.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
                if int(file.read().rpartition(b")")[2].split()[1]) == own:
                    children.append(int(name))
    return children


def _end_as(status: int) -> None:
    """End with the replica's exit code, or by the signal that ended it."""
    if os.WIFEXITED(status):
        os._exit(os.WEXITSTATUS(status))
    faulthandler.disable()
    number = os.WTERMSIG(status)
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    os._exit(128 + number)
