"""What can go wrong, named by the next action.

Nothing here is caught only to be logged: each error ends in a retry, in a dead letter, or in a
non-zero exit with its reason.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import TypeGuard, TypeVar

E = TypeVar("E", bound=BaseException)

LINE_LIMIT = 4_000
NAME_LIMIT = 200
"""Characters."""

CAUSES = 100
"""How many errors are looked at for what caused one."""


def one_line(error: BaseException) -> str:
    """The exception's type and text, on one line: ``ValueError: no such name``.

    Never raises, whatever the exception is, and is never empty: its class, its text and its causes may be a stranger's.
    """
    name = name_of(type(error))
    text = " ".join(said(error).split())
    return f"{name}: {text}" if text else name


def said(error: BaseException) -> str:
    """The exception's text, its middle left out beyond ``LINE_LIMIT`` characters. Never raises."""
    return text_of(error)


def text_of(value: object, limit: int = LINE_LIMIT) -> str:
    """``str(value)`` for any value, or that there is none."""
    try:
        return plain(str.__str__(str(value)), limit)  # a subclass may have methods of its own
    except BaseException:  # noqa: BLE001  # the value's own code
        return f"<a {name_of(type(value))} that cannot be shown>"


def name_of(kind: type) -> str:
    """A class's name on one line, whatever its metaclass says."""
    name = str.__str__(type.__dict__["__name__"].__get__(kind))
    return " ".join(plain(name, NAME_LIMIT).split()) or "an exception without a name"


def cut(text: str, limit: int) -> str:
    """``text``, its middle left out beyond ``limit`` characters."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} … {len(text) - 2 * half} characters … {text[len(text) - half :]}"


def plain(text: str, limit: int) -> str:
    """``text`` as UTF-8 can carry it (lone surrogates escaped), its middle left out beyond ``limit`` characters."""
    short = cut(text, limit)
    escaped = short.encode("utf-8", "backslashreplace").decode()
    return escaped if len(escaped) == len(short) else cut(escaped, limit)


def is_a(error: BaseException, *kinds: type[E]) -> TypeGuard[E]:
    """As ``isinstance``, by what it is and not by what it says."""
    return issubclass(type(error), kinds)


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it was raised from; an end comes, also where they go round."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen and len(seen) < CAUSES:
        yield cause
        seen.add(id(cause))
        cause = BaseException.__dict__["__cause__"].__get__(cause)


def traced(error: BaseException, limit: int) -> str:
    """The exception with its traceback and causes, as Python shows it, in ``limit`` characters. Never raises."""
    try:
        told = traceback.TracebackException.from_exception(error)
        _shorten(told, limit)
        return plain("".join(told.format()), limit)
    except BaseException:  # noqa: BLE001  # its class, its notes, its causes: any of them may be a stranger's
        return f"{_place(error)}{one_line(error)}"


def _shorten(told: traceback.TracebackException, limit: int) -> None:
    """Each text by itself: formatting takes them apart into lines."""
    waiting = [told]
    while waiting:
        each = waiting.pop()
        if isinstance(text := getattr(each, "_str", None), str):
            each._str = cut(text, limit)  # type: ignore[attr-defined]
        waiting += [other for other in (each.__cause__, each.__context__, *(each.exceptions or ())) if other]


def _place(error: BaseException) -> str:
    try:
        return "".join(traceback.format_tb(error.__traceback__, -LINE_LIMIT // 100))
    except BaseException:  # noqa: BLE001  # source lines come from loaders, which may be anybody's
        return ""


class PenstockError(Exception):
    """Base of every error that Penstock raises on purpose. Its text is one line for a person."""

    exit_code = 1


class UserError(PenstockError):
    """The user can fix it, and the text says how. Exit code 2."""

    exit_code = 2


class RefusedError(PenstockError):
    """The command refuses, since going on could lose records or stop a shard; the text says what to do. Exit code 3."""

    exit_code = 3


class NothingToDo(PenstockError):
    """The state is already as wished, and nothing was changed. Exit code 4."""

    exit_code = 4


class ConfigError(UserError):
    """A setting is wrong: ``key`` names it, ``fix`` says what to write instead."""

    def __init__(self, key: str, problem: str, fix: str) -> None:
        super().__init__(f"{key}: {problem}. {fix}")
        self.key = key
        self.problem = problem
        self.fix = fix


class ModelError(UserError):
    """The model cannot be used as it is: it does not import, its weights are missing or have another hash."""


class Fatal(PenstockError):
    """Going on would lose, double or hide something; the task ends with this reason (exit code 1)."""


class Broken(Fatal):
    """Something ended that must not, and nobody foresaw why: it may be a record's doing."""


class ReplicaDied(PenstockError):
    """A replica ended while it worked. ``reason`` reads like ``killed by signal 11``."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"replica {reason}")
        self.reason = reason


class BatchFailed(PenstockError):
    """``predict`` raised, or broke its contract, for a batch as a whole. Bisect it."""

    def __init__(self, reason: str, traceback: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.traceback = traceback
