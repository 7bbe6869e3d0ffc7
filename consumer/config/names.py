"""What may be the name of a stream and of an application: one rule for settings and command line."""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
"""Names of streams, from the API model of Kinesis."""
ARN = re.compile(r"arn:[^:]*:kinesis:[^:]*:[^:]*:stream/([A-Za-z0-9_.-]{1,128})(?:/.*)?")
APPLICATION = re.compile(r"[A-Za-z0-9_.-]{3,238}")
"""The application names a DynamoDB table (at most 255 characters), and KCL appends up to 17 for its other tables."""


def stream_mistake(name: str) -> tuple[str, str] | None:
    """Return why the text is not a stream's name, as the rest of a sentence that begins with it, and what to write."""
    if arn := ARN.fullmatch(name):
        return "is an ARN, not a name", f'Write "{arn[1]}"; AWS_REGION sets the region'
    if not NAME.fullmatch(name):
        return "is not a valid stream name", "Write 1 to 128 letters, digits, '.', '_' or '-'"
    return None


def application_mistake(name: str) -> tuple[str, str] | None:
    """Return the same for an application's name."""
    if APPLICATION.fullmatch(name):
        return None
    return "is not a valid name of a DynamoDB table", "Write 3 to 238 letters, digits, '.', '_' or '-'; no spaces"
