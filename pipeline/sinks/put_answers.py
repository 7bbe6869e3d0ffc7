"""The results of the rows of a PutRecords call: from Kinesis' answer, or from the error instead of one. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from pipeline.errors import one_line

REFUSALS = frozenset(
    {
        "AccessDeniedException",
        "ExpiredTokenException",
        "IncompleteSignature",
        "KMSAccessDeniedException",
        "KMSDisabledException",
        "KMSNotFoundException",
        "ResourceNotFoundException",
        "UnrecognizedClientException",
    }
)
"""Kinesis error codes that a retry does not cure: a person has to fix something."""

ROW_FAULTS = frozenset(
    {"InvalidArgumentException", "RequestEntityTooLargeException", "SerializationException", "ValidationException"}
)
"""Kinesis error codes that a single row may have caused. Kinesis validates a call as a whole, so all its rows fail."""


class PutAnswer(NamedTuple):
    """Which rows of a call were accepted. ``reason``: why the others were not, without quoting them."""

    accepted: Sequence[bool]
    reason: str
    refused: bool = False
    """A person has to fix something before the same call can succeed."""
    at_fault: bool = False
    """The call is invalid as a whole; which row caused it is unknown."""
    row_faults: Mapping[int, str] = MappingProxyType({})
    """By index in the call: rows that are invalid themselves, and why. These texts may quote rows."""
    quoting: str = ""
    """Why the call as a whole is invalid, in words that may quote rows; for dead letters only."""


def answer_of(answered: Sequence[Mapping[str, Any]]) -> PutAnswer:
    """From the ``Records`` of Kinesis' answer, one for each row."""
    codes = [each.get("ErrorCode") for each in answered]
    faults = {
        place: f"{code}: {each.get('ErrorMessage', '')}"
        for place, (code, each) in enumerate(zip(codes, answered, strict=True))
        if code in ROW_FAULTS
    }
    reason = ", ".join(sorted({code for code in codes if code}))
    return PutAnswer([not code for code in codes], reason, row_faults=faults)


def failed(error: ClientError | BotoCoreError, rows: int) -> PutAnswer:
    """From the error of a call of this many rows, none of which was accepted."""
    none = [False] * rows
    if isinstance(error, ClientError):
        code = code_of(error)
        if code in ROW_FAULTS:
            return PutAnswer(none, code, code in REFUSALS, at_fault=True, quoting=message_of(error))
        return PutAnswer(none, message_of(error), code in REFUSALS)
    if isinstance(error, ParamValidationError):
        return PutAnswer(none, type(error).__name__, at_fault=True, quoting=one_line(error))
    return PutAnswer(none, str(error))


def code_of(error: ClientError) -> str:
    """Return Kinesis' code of an error; empty if it has none."""
    return error.response.get("Error", {}).get("Code", "")


def message_of(error: ClientError) -> str:
    """Return the code and the text of an error. The text may quote rows."""
    return f"{code_of(error)}: {error.response.get('Error', {}).get('Message', '')}"
