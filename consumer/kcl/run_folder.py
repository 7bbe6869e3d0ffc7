"""The folder of one run: the bridges' socket, their token, KCL's properties. Those of hosts that were killed are swept.

A host holds a lock on the file ``lock`` in its folder as long as it lives; the system frees it at its end, whatever
that is. The file has its name only once it is locked, so one that can be locked by another is of a host that is dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import shutil
import stat
import tempfile
import time
from pathlib import Path

from pipeline.errors import UserError

log = logging.getLogger("kcl")

PREFIX = "penstock-run-"
NAME = re.compile(rf"{PREFIX}\w{{8}}", re.ASCII)
LOCK = "lock"

YOUNG_S = 60.0
"""A folder without a lock that young may be one that is being made."""


class RunFolder:
    """Made, locked, and for this user alone; those that nobody holds any more are removed by the way.

    :raises UserError: the folder for temporary files cannot be written, or not be locked.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = parent or Path(tempfile.gettempdir())
        sweep(parent)
        try:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            try:
                self._lock = _locked(self.path)
            except BaseException:
                shutil.rmtree(self.path, ignore_errors=True)
                raise
        except OSError as error:
            raise UserError(
                f"{parent}: {error.strerror or error}. Set TMPDIR to a folder that may be written"
            ) from None

    def remove(self) -> None:
        """It, and all that is in it. May be called again."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def _locked(folder: Path) -> int:
    unnamed = folder / f"{LOCK}.new"
    lock = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unnamed.rename(folder / LOCK)
    except BaseException:
        os.close(lock)
        raise
    return lock


def sweep(parent: Path, now: float | None = None) -> list[Path]:
    """Remove what dead hosts of this user have left in ``parent``; says which that was. Never raises ``OSError``."""
    swept = []
    for folder in _ours(parent):
        with contextlib.suppress(OSError):
            if _is_dead(folder, time.time() if now is None else now):
                swept.append(folder)
    if swept:
        log.info("removed what hosts that were killed have left: %s", ", ".join(map(str, swept)))
    return swept


def _ours(parent: Path) -> list[Path]:
    """By name, kind, owner and mode: what another user makes here is never one of ours."""
    try:
        return [Path(entry.path) for entry in os.scandir(parent) if NAME.fullmatch(entry.name) and _is_private(entry)]
    except OSError:
        return []


def _is_private(entry: os.DirEntry[str]) -> bool:
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) == 0o700


def _is_dead(folder: Path, now: float) -> bool:
    """Whether it was nobody's; it is removed then. Of two that sweep at once one has the lock, the other passes on."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        if now - folder.stat().st_mtime < YOUNG_S:
            return False
        shutil.rmtree(folder)
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    finally:
        os.close(lock)
    return True
