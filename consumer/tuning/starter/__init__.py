"""A folder to begin with: a model, its configuration, records to try it on, and a test. For ``penstock init``."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from pipeline.errors import RefusedError, UserError

FILES = ("model.py", "penstock.toml", "records.jsonl", "test_model.py")
"""Written in this order. Files other than TOML have the suffix ``.txt`` here, because they are a user's code and not
ours."""


def write(folder: Path) -> list[Path]:
    """Write the files into a new or an empty folder, and return their paths.

    :raises RefusedError: the folder is not empty.
    :raises UserError: it is a file, or cannot be written.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file. Name a folder that does not exist yet")
        if folder.exists() and any(folder.iterdir()):
            raise RefusedError(f"{folder} is not empty, and files in it are never overwritten. Name a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (folder / name).write_text(_text(name), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}). Name another folder") from None
    return [folder / name for name in FILES]


def _text(name: str) -> str:
    kept_as = name if name.endswith(".toml") else f"{name}.txt"
    return files(__name__).joinpath(kept_as).read_text(encoding="utf-8")
