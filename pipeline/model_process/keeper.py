"""A small process between the host and a replica. It ends when the replica does, and takes along all that it started.

A model may start processes, and those others, in sessions of their own. When their parent ends they are nobody's, and
go on. On Linux the keeper is their reaper (``PR_SET_CHILD_SUBREAPER``, prctl(2)): whatever the replica's end leaves
behind becomes the keeper's child, to be killed and waited for until none is left. The keeper forks the replica before
anything is imported, so it costs about 5 MiB, and nobody else's children are ever in question. On other systems the
replica's process group is killed, which what has left that group outlives.

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
"""What cannot be killed, since it is another user's or in the kernel's hands, is left behind after so long."""
PAUSE_S = 0.005


def main() -> None:
    """``keeper.main``, with the socket's descriptor and the host's process id as arguments. SIGTERM: end everything."""
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
        os._exit(0)  # it died before the kernel knew


def _let_go(connection: int) -> None:
    """The replica's socket and log end when the replica lets go of them, not when we do."""
    os.close(connection)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def _watched(replica: int) -> int:
    """The replica's wait status, once it has ended, if need be by our hand."""
    while True:
        if signal.sigwait(WATCHED) == signal.SIGTERM:
            os.kill(replica, signal.SIGKILL)
        while (ended := _reaped()) is not None:
            if ended[0] == replica:
                return ended[1]


def _reaped() -> tuple[int, int] | None:
    """A child that has ended, of whose end nobody has been told; None if there is none now."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _sweep(replica: int) -> None:
    """Kill what the replica has left behind, and what that leaves behind, until nothing is left."""
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
    """Of this process, as proc(5) tells; empty on other systems."""
    own = os.getpid()
    children = []
    for name in os.listdir("/proc") if sys.platform == "linux" else ():
        if name.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
                if int(file.read().rpartition(b")")[2].split()[1]) == own:
                    children.append(int(name))
    return children


def _end_as(status: int) -> None:
    """With the replica's own exit code, or of the signal that it died of."""
    if os.WIFEXITED(status):
        os._exit(os.WEXITSTATUS(status))
    faulthandler.disable()
    number = os.WTERMSIG(status)
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    os._exit(128 + number)
