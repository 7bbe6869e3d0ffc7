"""Runs a program that must not outlive the one that started it.

    python -I -S die_with_parent.py PARENT_PID PROGRAM ARGUMENT...

Asks Linux to kill this process when its parent dies, however it dies, and becomes PROGRAM. Elsewhere it only becomes
PROGRAM: there, what ends a JVM whose host is gone is its bridges.
"""

import os
import sys

PR_SET_PDEATHSIG = 1
SIGKILL = 9


def main(parent: int, command: list[str]) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)  # it died before the kernel knew
    os.execv(command[0], command)  # noqa: S606  # what we were asked to become, and no shell


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
