"""The traceback of an exception, as text; and the place in the model's own code from which it comes.

The exception may be of any class, so its methods may contain any code. No function here raises.
"""

from __future__ import annotations

import logging
import os
import sysconfig
import traceback
from pathlib import Path

from pipeline import extras
from pipeline.errors import LINE_LIMIT, ModelError, PenstockError, causes, cut, is_a, one_line, plain

OURS = str(Path(__file__).parent)
LIBRARIES = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
FOREIGN = (OURS, "<frozen ", *LIBRARIES)
"""Beginnings of the names of files that are not the model's own."""

TRACEBACK_LIMIT = 16_000
"""Characters of a traceback that is kept: a model may put whole payloads into its exceptions."""


def traced(error: BaseException, limit: int) -> str:
    """Return the exception with traceback and causes, as Python prints it, in ``limit`` characters."""
    try:
        told = traceback.TracebackException.from_exception(error)
        _shorten(told, limit)
        return plain("".join(told.format()), limit)
    except BaseException:  # noqa: BLE001  # its class, notes and causes may contain any code
        return f"{_frames(error)}{one_line(error)}"


def _shorten(told: traceback.TracebackException, limit: int) -> None:
    """Shorten each text before formatting, which would split it into lines."""
    waiting = [told]
    while waiting:
        each = waiting.pop()
        if isinstance(text := getattr(each, "_str", None), str):
            each._str = cut(text, limit)  # type: ignore[attr-defined]
        waiting += [other for other in (each.__cause__, each.__context__, *(each.exceptions or ())) if other]


def _frames(error: BaseException) -> str:
    try:
        return "".join(traceback.format_tb(error.__traceback__, -LINE_LIMIT // 100))
    except BaseException:  # noqa: BLE001  # source lines come from import loaders, which may contain any code
        return ""


def place(error: BaseException) -> str:
    """Return where the error was raised, as in ``model.py:12 in load``: the innermost place in the model's own code, or
    the innermost of all if there is none. Empty if there is no traceback.
    """
    try:
        return _place(error)
    except BaseException:  # noqa: BLE001  # names of files and functions are the model's
        return ""


def _place(error: BaseException) -> str:
    """Without ``extract_tb``, which looks for the source of every frame on the disk, for every bad record."""
    places = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    if not places:
        return ""
    own = [each for each in places if not each[0].co_filename.startswith(FOREIGN)]
    code, line = (own or places)[-1]
    return " ".join(f"{os.path.basename(code.co_filename)}:{line} in {code.co_name}".split())


def model_error(what: str, error: BaseException) -> ModelError:
    """Return the error for a model that cannot be used, because ``error`` was raised in its code. Its text is ``what``,
    the exception and its place, on one line: ``load failed: ValueError: no such name (model.py:12 in load)``. If a
    module of an extra is missing, also the command that installs it.
    """
    where = "" if is_a(error, SyntaxError) else place(error)  # a SyntaxError's text has the place
    said = f"{what}: {one_line(error)}{f' ({where})' if where else ''}{_hint(error)}"
    return ModelError(said, traced(error, TRACEBACK_LIMIT))


def _hint(error: BaseException) -> str:
    """What to install, if the error or one that caused it is of a missing module of an extra; else empty."""
    missing = next((each for each in causes(error) if type(each) is ModuleNotFoundError), None)
    return extras.hint(missing.name) if missing is not None and type(missing.name) is str else ""


def log_traceback(log: logging.Logger, error: PenstockError) -> None:
    """Log the traceback of the model's exception, if ``error`` has one: a record for each line, as a log in text needs
    it.
    """
    if isinstance(error, ModelError):
        for line in error.traceback.splitlines():
            log.error("%s", line)
