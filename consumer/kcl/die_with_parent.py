"""Runs a program that must not outlive its parent.

    python -I -S die_with_parent.py PARENT_PID PROGRAM ARGUMENT...

On Linux it asks the kernel to kill this process when its parent dies, and then becomes PROGRAM. On other systems it
only becomes PROGRAM; there, the bridges end a JVM whose host is gone.
"""

import os
import sys

PR_SET_PDEATHSIG = 1
SIGKILL = 9


def main(parent: int, command: list[str]) -> None:
    """Replace this process by ``command``. Exits with 1 if ``parent``, a process id, is no longer its parent."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)  # the parent died before prctl
    os.execv(command[0], command)  # noqa: S606  # the caller's command, without a shell


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
