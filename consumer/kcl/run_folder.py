"""The folder of one run, with the bridges' socket, their token and KCL's properties. Folders of killed hosts are
removed.

A host locks the file ``lock`` in its folder for its whole life; the system releases the lock when the process ends. The
file gets its name after it is locked. So if another process can lock it, its host is dead.
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
"""Seconds for which a folder without a lock is kept, because it may be new."""


class RunFolder:
    """A locked folder that only this user may enter. The constructor also removes folders of hosts that are dead.

    :raises UserError: if the folder for temporary files cannot be written or locked.
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
            raise UserError(f"{parent}: {error.strerror or error}. Set TMPDIR to a writable folder") from None

    def remove(self) -> None:
        """Remove the folder with its contents. May be called more than once."""
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
    """Remove the folders of this user's dead hosts in ``parent`` and return them. Never raises ``OSError``."""
    swept = []
    for folder in _ours(parent):
        with contextlib.suppress(OSError):
            if _is_dead(folder, time.time() if now is None else now):
                swept.append(folder)
    if swept:
        log.info("removed folders of hosts that were killed: %s", ", ".join(map(str, swept)))
    return swept


def _ours(parent: Path) -> list[Path]:
    """Folders of this user's hosts, by name, type, owner and mode; never one that another user made."""
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
    """Remove the folder if its host is dead, and return whether it was. Of two concurrent calls one gets the lock."""
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
