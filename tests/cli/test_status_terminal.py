"""``penstock status --watch`` on a real terminal that changes its size."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time

from tests.e2e.rig import ROOT

WATCH = """
from itertools import repeat
from consumer.cli.status import looks
from tests.cli.test_status import example
looks.live(repeat(example()), 0.2)
"""

BEGIN = "\x1b[H"
"""Every drawing of the screen begins at the top left."""

SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A pseudo-terminal with a command on it, and the command's output."""

    def __init__(self, width: int, height: int) -> None:
        self._ours, theirs = pty.openpty()
        self.resize(width, height)
        env = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(ROOT)}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            env.pop(name, None)
        command = [sys.executable, "-c", WATCH]
        self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        self.text = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def drawing(self) -> list[str]:
        """Return a complete drawing that began after this call, without colours."""
        seen, end = len(self.text), time.monotonic() + 60
        while time.monotonic() < end:
            drawings = self.text[seen:].split(BEGIN)
            if len(drawings) > 3:
                return SEQUENCE.sub("", drawings[2]).replace("\r", "").rstrip("\n").split("\n")
            time.sleep(0.05)  # between two looks at what was written
        raise AssertionError(self.text[-2000:])

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self._reader.join(20)
        os.close(self._ours)

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._ours, 65536)
            except OSError:  # the command has ended
                return
            if not piece:
                return
            self.text += piece.decode(errors="replace")


def test_each_drawing_fits_the_terminal_as_it_is_then() -> None:
    terminal = Terminal(160, 40)
    try:
        for width, height in ((60, 14), (200, 50), (40, 8)):
            terminal.resize(width, height)
            lines = terminal.drawing()
            assert len(lines) <= height
            assert max(map(len, lines)) <= width
            assert lines[0].startswith("app on stream events")
    finally:
        terminal.close()
