"""Undo files: what there was before a command changed it, as one JSON object with the schema of the command.

A new file is written before the change begins, and a file is replaced in one step: a command that is interrupted at any
moment leaves a file that leads back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import UserError

T = TypeVar("T")


def write(path: Path, said: Mapping[str, Any], *, again: bool = False) -> None:
    """Write a new file. Sets, which items of DynamoDB may contain, become sorted lists.

    ``again``: replace the file, in one step.

    :raises UserError: the file exists, or cannot be written.
    """
    to = path.with_name(f"{path.name}.part") if again else path
    try:
        with to.open("w" if again else "x", encoding="utf-8") as file:
            file.write(json.dumps(said, indent=1, default=sorted) + "\n")
        to.replace(path)
    except FileExistsError:
        raise UserError(f"{path} exists. Give the undo file another name with --undo FILE") from None
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}). Name another with --undo FILE") from None


def read(path: Path, schema: str, parsed: Callable[[dict[str, Any]], T], *, command: str) -> T:
    """Return ``parsed`` of the file's object.

    ``parsed`` may raise ``ValueError``, ``KeyError``, ``TypeError`` and ``UserError``. ``command``: the one that writes
    such files.

    :raises UserError: the file cannot be read, or is not an undo file with this schema.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if said["schema"] != schema:
            raise ValueError(said["schema"])
        return parsed(said)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). Name an undo file that exists") from None
    except (ValueError, KeyError, TypeError, UserError):
        raise UserError(f"{path} is not an undo file. Name one that `{command}` wrote") from None
