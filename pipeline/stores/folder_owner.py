"""Checks that other users cannot put files into a folder, or replace the folder.

Root, the current user and members of a folder's group are trusted; all others are not. In a folder that everybody may
write to (``/tmp``), the sticky bit must be set, so that only the owner of a name can replace it.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from pipeline.stores.base import Denied


def check_own(folder: Path) -> None:
    """Check the folder, all its parents and all folders in it. Parts of the path that do not exist yet are not checked.

    :raises Denied: one line that says who could write there, and the fix.
    """
    for path in (folder, Path(os.path.realpath(folder))):
        for parent, child in _steps(path):
            _check_step(parent, child)
    if folder.is_dir():
        for inner, folders, _ in os.walk(folder):
            for path in (Path(inner), *(Path(inner, name) for name in folders)):
                _check_inner(path, folder)


def _steps(path: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each existing folder on the path, from the top, together with the next part of the path."""
    chain = [*reversed(path.parents), path]
    for parent, child in pairwise(chain):
        if not os.path.lexists(child):
            yield parent, parent
            return
        yield parent, child


def _check_step(parent: Path, child: Path) -> None:
    found = parent.stat()
    if found.st_uid not in _trusted():
        raise Denied(f"{parent} belongs to user {found.st_uid}, who could put another folder there. {_fix()}")
    if not found.st_mode & stat.S_IWOTH:
        return
    if not found.st_mode & stat.S_ISVTX:
        close = shlex.join(["chmod", "o-w", str(parent)])
        raise Denied(f"every user may write to {parent}, and put another folder there. Run: {close}. {_fix()}")
    if child.lstat().st_uid not in _trusted():
        raise Denied(f"{child} belongs to user {child.lstat().st_uid}. {_fix()}")


def _check_inner(path: Path, folder: Path) -> None:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise Denied(f"{path} is a link; {folder} must not contain links. Remove it")
    if found.st_uid not in _trusted():
        raise Denied(f"{path} belongs to user {found.st_uid}, who could change the files in it. {_fix()}")
    if found.st_mode & stat.S_IWOTH:
        raise Denied(f"every user may write to {path}. Run: {shlex.join(['chmod', '-R', 'o-w', str(folder)])}")


def _trusted() -> tuple[int, int]:
    return 0, os.geteuid()


def _fix() -> str:
    return "Use a folder inside one that only this user may write to"
