"""Types of single settings. Each check reports the problem and what to write instead."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, PlainValidator
from pydantic_core import PydanticCustomError

from consumer.config.errors import shown_value
from pipeline.errors import ConfigError
from pipeline.table import column_names

NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
"""Names of streams, from the API model of Kinesis."""
ARN = re.compile(r"arn:[^:]*:kinesis:[^:]*:[^:]*:stream/([A-Za-z0-9_.-]{1,128})(?:/.*)?")
APPLICATION = re.compile(r"[A-Za-z0-9_.-]{3,238}")
"""The application names a DynamoDB table (at most 255 characters), and KCL appends up to 17 for its other tables."""
FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
STOP_TIMEOUT_S = 120
"""Maximum seconds that ECS waits between SIGTERM and SIGKILL."""
DOUBTFUL = 2
"""Number of deaths after which a shard is read carefully. A single death may have any cause: a machine fails, a
container is evicted."""

LEAST_TASKS = DOUBTFUL + 1 + 2
"""Minimum of ``give_up_after_tasks``: at least two tasks must have died while they tried the record alone."""

REMEMBERED = 8
"""Number of deaths that a note on a lease keeps, with their reasons."""

MOST_TASKS = REMEMBERED + DOUBTFUL
"""Maximum of ``give_up_after_tasks``: a note cannot count more deaths."""

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
CARRY_TYPES = (
    *("string", "int64", "float64", "bool", "timestamp"),
    *("timestamp[s]", "timestamp[ms]", "timestamp[us]", "timestamp[ns]"),
)


def _wrong(problem: str, fix: str) -> PydanticCustomError:
    return PydanticCustomError("wrong", "{problem}", {"problem": problem, "fix": fix})


def _name(value: str) -> str:
    if arn := ARN.fullmatch(value):
        raise _wrong(f"{shown_value(value)} is an ARN, not a name", f'Write "{arn[1]}"; AWS_REGION sets the region')
    if not NAME.fullmatch(value):
        problem = f"{shown_value(value)} is not a valid stream name"
        raise _wrong(problem, "Write 1 to 128 letters, digits, '.', '_' or '-'")
    return value


def _application(value: str) -> str:
    if not APPLICATION.fullmatch(value):
        raise _wrong(
            f"{shown_value(value)} is not a valid name of a DynamoDB table",
            "Write 3 to 238 letters, digits, '.', '_' or '-'; no spaces",
        )
    return value


def _start(value: object) -> object:
    """Accept a string or a TOML time. KCL needs an instant, so a time needs a time zone."""
    if value in ("TRIM_HORIZON", "LATEST") or not isinstance(value, str | datetime):
        return value
    try:
        when = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except ValueError:
        when = None
    shown = shown_value(str(value))
    if when is None or when.tzinfo is None:
        problem = f"{shown} is not a position in a stream" if when is None else f"{shown} has no time zone"
        raise _wrong(problem, 'Write "TRIM_HORIZON", "LATEST" or a time such as "2026-11-23T08:00:00Z"')
    if when > datetime.now(UTC):
        raise _wrong(f"{shown} is in the future", 'Write "LATEST" to start now, or a time in the past')
    return when.isoformat()


def _factory(value: str) -> str:
    if not FACTORY.fullmatch(value):
        raise _wrong(
            f"{shown_value(value)} is not of the form module:attribute", 'For example: "examples.minilm:MiniLM"'
        )
    return value


def _whole(value: object, least: int, what: str, fix: str) -> int | Literal["auto"]:
    """``auto`` or a whole number of at least ``least``."""
    if value == "auto":
        return "auto"
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise _wrong(f"{shown_value(value)} is not a {what}", fix)


def _count(value: object) -> int | Literal["auto"]:
    return _whole(value, 1, "count", 'Write "auto" or a whole number of at least 1')


def _memory(value: object) -> int | Literal["auto"]:
    return _whole(value, 0, "memory size", 'Write "auto", a whole number of MiB, or 0 for no limit')


def _seconds(value: object) -> float | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf"):
        return float(value)
    raise _wrong(f"{shown_value(value)} is not a number of seconds", 'Write "auto" or a number above 0')


def _url(value: str) -> str:
    bucket = value.removeprefix("s3://").partition("/")[0]
    if value.startswith("s3://") and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
        raise _wrong(f"{shown_value(value)} has no valid bucket name", "Write s3://bucket/prefix")
    if value.startswith("s3://") and {"", ".", ".."} & set(value[5:].strip("/").split("/")):
        problem = f"{shown_value(value)} has an empty part, or a part that is . or .."
        raise _wrong(problem, "Remove it: S3 allows such keys, but readers resolve them to other keys")
    if not value or ("://" in value and not value.startswith("s3://")) or "\0" in value:
        raise _wrong(
            f"{shown_value(value)} is not an S3 URL or a folder", "Write s3://bucket/prefix, or the path of a folder"
        )
    return value


def _level(value: object) -> object:
    return value.upper() if isinstance(value, str) and value.upper() in LEVELS else value


def _passthrough(value: dict[str, str]) -> dict[str, str]:
    for field, kind in value.items():
        if kind not in CARRY_TYPES:
            raise _wrong(f"{field} = {shown_value(kind)} is not a type", f"Write one of {', '.join(CARRY_TYPES)}")
        if not field or field.startswith("_"):
            raise _wrong(f'"{field}" cannot be a column', "Rename it: Parquet readers skip names that start with _")
    try:
        column_names.check(value, value)
    except ConfigError as error:
        raise _wrong(error.problem, error.fix.removesuffix(".")) from None
    return value


StreamName = Annotated[str, AfterValidator(_name)]
Url = Annotated[str, AfterValidator(_url)]
Count = Annotated[int | Literal["auto"], PlainValidator(_count)]
Memory = Annotated[int | Literal["auto"], PlainValidator(_memory)]
BatchSeconds = Annotated[float | Literal["auto"], PlainValidator(_seconds)]
Level = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_level)]
