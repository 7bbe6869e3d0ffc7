"""One replica: a process that holds the model and predicts what the host sends. Started by
:mod:`pipeline.replicas.process` alone.

It ends when the host does, however that ends: at the end of the stream, read by a thread of its own; and on Linux by
the kernel's hand, even if the model never lets Python run again. Nothing the model prints reaches a protocol: standard
output is standard error, and standard error is the host's log.
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
"""The exit code of a replica whose stream was read by another: EX_SOFTWARE of sysexits.h."""

LEVELS = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""As syslog numbers them. The host reads ``<4>text`` as a warning, as systemd does."""


def main() -> None:
    """``replica.main``, with the socket's descriptor and the parent's process id as arguments."""
    connection = socket.socket(fileno=int(sys.argv[-2]))
    connection.set_inheritable(False)
    _die_with(int(sys.argv[-1]))
    memory_limit.volunteer()
    _log_to_the_host()
    own = os.getpid()
    os.register_at_fork(after_in_child=lambda: _disown(connection))
    frames = Inbox()
    threading.Thread(target=_read, args=(connection, frames), name="reader", daemon=True).start()
    serve(connection, frames, own)


class Inbox:
    """Requests, in their order. ``seal`` is of the one that was taken last: its answer must carry it."""

    def __init__(self) -> None:
        self._frames: queue.SimpleQueue[wire.Frame] = queue.SimpleQueue()
        self.seal = b""

    def put(self, frame: wire.Frame) -> None:
        self._frames.put(frame)

    def get(self) -> wire.Frame:
        frame = self._frames.get()
        self.seal = frame.seal
        return frame


def serve(connection: socket.socket, frames: Inbox, own: int) -> None:
    """Start as the first frame says, then answer each frame, in their order, until the process ends.

    ``own``: the process that may answer. A child that the model forked, and whose code has returned to here, ends: its
    answer would be taken for ours.
    """
    from pipeline.model_process.worker import start

    answer, work = start(pickle.loads(frames.get().body))  # noqa: S301  # the host's own settings
    _answer(connection, answer, frames.seal, own)
    while work is not None and work.usable:
        _answer(connection, work.answer(frames.get()), frames.seal, own)
    threading.Event().wait()  # the host has been told that we are of no use, and ends us


def _answer(connection: socket.socket, answer: list[Any], seal: bytes, own: int) -> None:
    if os.getpid() != own:
        os._exit(0)
    wire.send(connection, wire.sealed(answer, seal))


def _disown(connection: socket.socket) -> None:
    """In a child that the model forked: it has nothing to say here."""
    connection.close()


def _read(connection: socket.socket, frames: Inbox) -> None:
    """The host sends one frame ahead and no more, so the queue is bounded by it."""
    assembler = wire.Assembler()
    try:
        while frame := wire.receive(connection, assembler):
            frames.put(frame)
    except wire.Garbage as garbage:
        log.error("bytes are missing in what the host sent (%s): another process reads its descriptor", garbage)
        os._exit(SPOILED)
    finally:
        os._exit(0)  # the host is gone or has done with us; the model may be in the middle of anything


def _die_with(parent: int) -> None:
    """Be killed when the host dies; and be deaf to the signals that tell the whole task to drain, which needs us."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)  # it died before the kernel knew
    own = os.getpid()

    def deaf(number: int, frame: FrameType | None) -> None:
        if os.getpid() != own:  # a child that the model forked is not us
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, deaf)


class _Levelled(logging.Formatter):
    """One line per line of text, each with its level in front."""

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
