"""What can go wrong, named by the next action.

Nothing here is caught only to be logged: each error ends in a retry, in a dead letter, or in a
non-zero exit with its reason.
"""

from __future__ import annotations


def one_line(error: BaseException) -> str:
    """The exception's type and text, on one line: ``ValueError: no such name``."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class PenstockError(Exception):
    """Base of every error that Penstock raises on purpose. Its text is one line for a person."""

    exit_code = 1


class UserError(PenstockError):
    """The user can fix it, and the text says how. Exit code 2."""

    exit_code = 2


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
