"""One replica: a process that holds the model and predicts what the host sends. Started by
:mod:`pipeline.replicas.process` alone.

It ends when the host ends, for any reason: a thread of its own reads the end of the stream; on Linux the kernel kills
it, too, even if the model never returns to Python. What the model prints cannot corrupt the protocol: standard output
goes to standard error, and standard error is the host's log.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

from pipeline.model_process import frames as wire
from pipeline.model_process import memory_limit

if TYPE_CHECKING:
    from types import FrameType

log = logging.getLogger("model")

PR_SET_PDEATHSIG = 1

SPOILED = 70
"""Exit code of a replica if another process read from its stream: EX_SOFTWARE in sysexits.h."""

LEVELS = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""Syslog's numbers of the log levels. The host reads ``<4>text`` as a warning, as systemd does."""


def main() -> None:
    """Run a replica. Arguments: the socket's file descriptor and the parent's process id."""
    connection = socket.socket(fileno=int(sys.argv[-2]))
    connection.set_inheritable(False)
    _die_with(int(sys.argv[-1]))
    memory_limit.prefer_for_oom_kill()
    _log_to_the_host()
    own = os.getpid()
    os.register_at_fork(after_in_child=lambda: _close_in_child(connection))
    frames = Inbox()
    threading.Thread(target=_read, args=(connection, frames), name="reader", daemon=True).start()
    serve(connection, frames, own)


class Inbox:
    """A queue of requests. ``seal`` is that of the request taken last: its answer must carry it."""

    def __init__(self) -> None:
        self._frames: queue.SimpleQueue[wire.Frame] = queue.SimpleQueue()
        self.seal = b""

    def put(self, frame: wire.Frame) -> None:
        """Add a request; called by the reading thread."""
        self._frames.put(frame)

    def get(self) -> wire.Frame:
        """Wait for the next request and note its seal."""
        frame = self._frames.get()
        self.seal = frame.seal
        return frame


def serve(connection: socket.socket, frames: Inbox, own: int) -> None:
    """Start as the first frame says, then answer each frame in order until the process ends.

    ``own``: id of the process that may answer. A child that the model forked ends when its code returns to here: its
    answer would be taken for the replica's.
    """
    from pipeline.model_process.starting import start

    answer, work = start(pickle.loads(frames.get().body))  # noqa: S301  # the host's own settings
    _answer(connection, answer, frames.seal, own)
    while work is not None and work.usable:
        _answer(connection, work.answer(frames.get()), frames.seal, own)
    threading.Event().wait()  # the host knows that this replica is unusable, and ends it


def _answer(connection: socket.socket, answer: list[Any], seal: bytes, own: int) -> None:
    if os.getpid() != own:
        os._exit(0)
    wire.send(connection, wire.sealed(answer, seal))


def _close_in_child(connection: socket.socket) -> None:
    """Runs in a child that the model forked: close its copy of the socket."""
    connection.close()


def _read(connection: socket.socket, frames: Inbox) -> None:
    """Read frames into the queue. The host sends at most one frame ahead, which bounds the queue."""
    assembler = wire.Assembler()
    try:
        while frame := wire.receive(connection, assembler):
            frames.put(frame)
    except wire.Garbage as garbage:
        log.error("the host's stream is corrupt (%s): another process reads from the replica's socket", garbage)
        os._exit(SPOILED)
    finally:
        os._exit(0)  # the host is gone or has closed the stream; the model may be busy, so do not wait for it


def _die_with(parent: int) -> None:
    """Ask the kernel to kill this process when the host dies, and ignore the signals that make the task drain: it
    needs us.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)  # the host died before the call
    own = os.getpid()

    def deaf(number: int, frame: FrameType | None) -> None:
        if os.getpid() != own:  # a child that the model forked is not us
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, deaf)


class _Levelled(logging.Formatter):
    """Formats each line of the text with its level in front."""

    def format(self, record: logging.LogRecord) -> str:
        level = LEVELS.get(record.levelno, 6)
        text = f"{record.name}: {super().format(record)}"
        return "\n".join(f"<{level}>{line}" for line in text.splitlines())


def _log_to_the_host() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Levelled())
    logging.basicConfig(handlers=[handler], level=logging.INFO)
    logging.captureWarnings(capture=True)


if __name__ == "__main__":
    main()
