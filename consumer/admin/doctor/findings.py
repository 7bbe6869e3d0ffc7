"""The findings of ``penstock doctor``, and the function that runs checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from pipeline.errors import PenstockError

T = TypeVar("T")


class Level(StrEnum):
    """``GREEN``: correct. ``YELLOW``: a risk, or unknown. ``RED``: the application cannot work."""

    GREEN = "green"
    YELLOW = "yellow"
    RED = "red"


@dataclass(frozen=True, slots=True)
class Finding:
    """``says`` is one line. ``fix`` says what to do; empty where there is nothing to do."""

    level: Level
    says: str
    fix: str = ""


def green(says: str) -> Finding:
    """A finding without a problem."""
    return Finding(Level.GREEN, says)


def yellow(says: str, fix: str) -> Finding:
    """A risk, or something unknown."""
    return Finding(Level.YELLOW, says, fix)


def red(says: str, fix: str) -> Finding:
    """Return the finding of a problem that must be fixed."""
    return Finding(Level.RED, says, fix)


def examine(checks: Mapping[str, Callable[[T], Iterator[Finding]]], subject: T) -> Iterator[tuple[str, Finding]]:
    """Run each check. An error of a check becomes its finding and does not stop the other checks.

    A ``PenstockError`` and an error response of AWS are red. If AWS does not answer, the finding is yellow: unknown.
    """
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    for name, check in checks.items():
        try:
            for finding in check(subject):
                yield name, finding
        except PenstockError as error:
            said, _, fix = str(error).partition(". ")
            yield name, red(said, fix or "Correct that, and run doctor again")
        except NoCredentialsError:
            yield name, red("there are no AWS credentials", "Set AWS_PROFILE, or credentials in ~/.aws/credentials")
        except ClientError as error:
            yield name, _refused(dict(error.response.get("Error", {})), error.operation_name)
        except BotoCoreError as error:
            yield name, yellow(f"AWS did not answer: {error}", "Check AWS_REGION, AWS_ENDPOINT_URL and the network")


def _refused(error: Mapping[str, Any], operation: str) -> Finding:
    code = error.get("Code", "")
    said = f"{operation}: {code}: {error.get('Message', '')}"
    if code.startswith("AccessDenied") or code == "UnauthorizedOperation":
        return red(said, f"Allow the action {operation}; docs/security.md has the whole policy")
    return red(said, "Correct the name, the region or the credentials")
