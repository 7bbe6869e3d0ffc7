"""Turns an installation into the layers of an image. Runs while the image is built; only the standard library.

    python layers.py FROM=TO=PATTERN[,PATTERN] ...    moves what fits the patterns from one root folder to another
    python layers.py --seal FOLDER ...                makes the bytes of a layer depend on its contents alone

A sealed layer has compiled modules, because the root of a container is read-only. They say no time, and neither do the
files, so that the same packages are the same layer whenever and wherever they are installed, and are not moved again.
"""

from __future__ import annotations

import compileall
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from py_compile import PycInvalidationMode

EPOCH_S = 315_532_800
"""1980-01-01, the first day that a zip file can store. It is the time of every file of every layer."""


def main(arguments: Sequence[str]) -> None:
    """Run with the arguments that the module describes."""
    if arguments[0] == "--seal":
        for folder in arguments[1:]:
            seal(Path(folder))
    else:
        for argument in arguments:
            source, target, patterns = argument.split("=")
            move(Path(source), Path(target), patterns.split(","))


def move(source: Path, target: Path, patterns: Sequence[str]) -> None:
    """Move packages to the same place below another root.

    :raises SystemExit: a pattern matches nothing, so a layer would be empty, and its contents would be in another one.
    """
    for pattern in patterns:
        found = sorted(source.glob(f"venv/lib/python3*/site-packages/{pattern}"))
        if not found:
            raise SystemExit(f"{source} has nothing that fits {pattern}")
        for path in found:
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, place)


def seal(root: Path) -> None:
    """Compile the modules below ``root``, and give all files the same time."""
    compileall.compile_dir(
        str(root),
        maxlevels=100,
        quiet=2,  # packages have files for other versions of Python, which cannot be compiled
        stripdir=str(root),
        prependdir="/",
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
    )
    for path in everything(root):
        os.utime(path, (EPOCH_S, EPOCH_S), follow_symlinks=False)


def everything(root: Path) -> Iterator[Path]:
    """Yield all files and folders; a folder comes after its contents, so that nothing changes its time afterwards."""
    for folder, folders, files in os.walk(root, topdown=False):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        yield from (Path(folder, name) for name in files + links)
        yield Path(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
