"""Whether a folder is this user's own, so that nobody else can put files in it, or another folder in its place.

Root, the user, and the members of a folder's group are trusted; everybody else is not. In a folder that all may write
to only the sticky bit keeps what is ours (/tmp): there a name belongs to its owner.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from pipeline.stores.base import Denied


def check_own(folder: Path) -> None:
    """Everything on the way to ``folder``, and the folders in it. What is not there yet is for us to make.

    :raises Denied: with one line that says who could write there, and what to do.
    """
    for path in (folder, Path(os.path.realpath(folder))):
        for parent, child in _steps(path):
            _check_step(parent, child)
    if folder.is_dir():
        for inner, folders, _ in os.walk(folder):
            for path in (Path(inner), *(Path(inner, name) for name in folders)):
                _check_inner(path, folder)


def _steps(path: Path) -> Iterator[tuple[Path, Path]]:
    """From the top: each folder with what the path goes to in it, as far as it exists."""
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
        raise Denied(f"everybody may write to {parent}, and put another folder there. chmod o-w {parent}, or {_fix()}")
    if child.lstat().st_uid not in _trusted():
        raise Denied(f"{child} belongs to user {child.lstat().st_uid}. {_fix()}")


def _check_inner(path: Path, folder: Path) -> None:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise Denied(f"{path} is a link, and {folder} holds none. Remove it")
    if found.st_uid not in _trusted():
        raise Denied(f"{path} belongs to user {found.st_uid}, who could change the files in it. {_fix()}")
    if found.st_mode & stat.S_IWOTH:
        raise Denied(f"everybody may write to {path}. Write: chmod -R o-w {folder}")


def _trusted() -> tuple[int, int]:
    return 0, os.geteuid()


def _fix() -> str:
    return "Name a folder below one that only this user may write to"
