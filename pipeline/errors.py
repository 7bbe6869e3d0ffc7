"""Errors, named after what to do next.

No error is caught only to be logged: each ends in a retry, in a dead letter, or in a non-zero exit code with its
reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import TypeGuard, TypeVar

E = TypeVar("E", bound=BaseException)

LINE_LIMIT = 4_000
"""The most characters of an exception's text in one line."""
NAME_LIMIT = 200
"""The most characters of a class's name."""

CAUSES = 100
"""How many errors of a chain of causes are examined."""


def one_line(error: BaseException) -> str:
    """Return the exception's type and text on one line: ``ValueError: no such name``.

    Never raises and is never empty, whatever code the exception's class has.
    """
    name = name_of(type(error))
    text = " ".join(said(error).split())
    return f"{name}: {text}" if text else name


def said(error: BaseException) -> str:
    """Return the exception's text; beyond ``LINE_LIMIT`` characters its middle is left out. Never raises."""
    return text_of(error)


def text_of(value: object, limit: int = LINE_LIMIT) -> str:
    """Return ``str(value)``, at most about ``limit`` characters, or a text that says that it has none. Never raises."""
    try:
        return plain(str.__str__(str(value)), limit)  # a subclass may have methods of its own
    except BaseException:  # noqa: BLE001  # the value's own code
        return f"<a {name_of(type(value))} that cannot be shown>"


def name_of(kind: type) -> str:
    """Return a class's name on one line, without calling its metaclass."""
    name = str.__str__(type.__dict__["__name__"].__get__(kind))
    return " ".join(plain(name, NAME_LIMIT).split()) or "an exception without a name"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is 1: ``1 shard``, ``2,000 batches``."""
    return f"{number:,} {noun if number == 1 else plural(noun)}"


def brief_s(seconds: float) -> str:
    """Return seconds with three digits and no exponent: ``0.0000428 s``, ``12.5 s``, ``1,920 s``."""
    return f"{Decimal(f'{seconds:.3g}'):,f} s"


def plural(noun: str) -> str:
    """Return the plural of a regular noun."""
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"


def cut(text: str, limit: int) -> str:
    """Return ``text``; beyond ``limit`` characters its middle is left out."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} … {len(text) - 2 * half} characters … {text[len(text) - half :]}"


def plain(text: str, limit: int) -> str:
    """Return ``text`` with lone surrogates escaped, so that UTF-8 can encode it; beyond ``limit`` its middle is left
    out.
    """
    short = cut(text, limit)
    if short.isascii():
        return short
    escaped = short.encode("utf-8", "backslashreplace").decode()
    return escaped if len(escaped) == len(short) else cut(escaped, limit)


def is_a(error: BaseException, *kinds: type[E]) -> TypeGuard[E]:
    """As ``isinstance``, but by the real type: ``__class__`` is not asked."""
    return issubclass(type(error), kinds)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and those it was raised from, at most :data:`CAUSES`; ends even if the chain is a circle."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen and len(seen) < CAUSES:
        yield cause
        seen.add(id(cause))
        cause = BaseException.__dict__["__cause__"].__get__(cause)


class PenstockError(Exception):
    """Base class of every error that Penstock raises on purpose. Its text is one line for a person.

    ``exit_code`` is that of a command or task that ends with it.
    """

    exit_code = 1


class UserError(PenstockError):
    """The user can fix it, and the text says how. Exit code 2."""

    exit_code = 2


class UserErrors(UserError):
    """Several mistakes, each a line of its own below ``head``."""

    def __init__(self, head: str, mistakes: Iterable[str]) -> None:
        self.lines = (head, *(f"  {each}" for each in mistakes))
        super().__init__("\n".join(self.lines))


class RefusedError(PenstockError):
    """The command refuses, since going on could lose records or stop a shard; the text says what to do. Exit code 3."""

    exit_code = 3


class NothingToDo(PenstockError):
    """The state is already as requested, and nothing was changed. Exit code 4."""

    exit_code = 4


class ConfigError(UserError):
    """A setting is wrong. ``key`` names it, ``problem`` says why, ``fix`` what to write instead."""

    def __init__(self, key: str, problem: str, fix: str) -> None:
        super().__init__(f"{key}: {problem}. {fix}")
        self.key = key
        self.problem = problem
        self.fix = fix


class ModelError(UserError):
    """The model cannot be used as it is, for example because an import fails or its weights are missing or have
    another hash.

    ``traceback``: of the exception in the model's own code, as Python prints it; empty if the text alone says what to
    fix.
    """

    def __init__(self, text: str = "", traceback: str = "") -> None:
        super().__init__(text)
        self.traceback = traceback


class Fatal(PenstockError):
    """Going on would lose, duplicate or hide something: the task ends with this reason. Exit code 1."""


class Broken(Fatal):
    """Something that must run has ended for a reason that no code expects; a record may be the cause."""


class ReplicaDied(PenstockError):
    """A replica ended while it worked on a request. ``reason`` reads like ``killed by signal 11``."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"replica {reason}")
        self.reason = reason


class BatchFailed(PenstockError):
    """``predict`` raised an error, or broke its contract, for a batch as a whole: bisect the batch."""

    def __init__(self, reason: str, traceback: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.traceback = traceback
