"""What single settings may be: each check tells the problem and what to write instead."""

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
"""Names of streams, as Kinesis' API model has them."""
ARN = re.compile(r"arn:[^:]*:kinesis:[^:]*:[^:]*:stream/([A-Za-z0-9_.-]{1,128})(?:/.*)?")
APPLICATION = re.compile(r"[A-Za-z0-9_.-]{3,238}")
"""A KCL application names DynamoDB tables (at most 255 characters); KCL appends up to 17 for its own."""
FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
STOP_TIMEOUT_S = 120
"""The longest that ECS waits between SIGTERM and SIGKILL."""
DOUBTFUL = 2
"""Deaths from which on a shard is read carefully. One may be anybody's: a machine fails, a container is evicted."""

LEAST_TASKS = DOUBTFUL + 1 + 2
"""Of ``give_up_after_tasks``: a record must have been by itself at two deaths at least."""

REMEMBERED = 8
"""Deaths whose reasons are kept; more say no more."""

MOST_TASKS = REMEMBERED + DOUBTFUL
"""Of ``give_up_after_tasks``: so many deaths can be told apart."""

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
CARRY_TYPES = (
    *("string", "int64", "float64", "bool", "timestamp"),
    *("timestamp[s]", "timestamp[ms]", "timestamp[us]", "timestamp[ns]"),
)


def _wrong(problem: str, fix: str) -> PydanticCustomError:
    return PydanticCustomError("wrong", "{problem}", {"problem": problem, "fix": fix})


def _name(value: str) -> str:
    if arn := ARN.fullmatch(value):
        raise _wrong(f"{shown_value(value)} is an ARN, not a name", f'Write "{arn[1]}"; the region is AWS_REGION\'s')
    if not NAME.fullmatch(value):
        problem = f"{shown_value(value)} is no name of a stream"
        raise _wrong(problem, "Write 1 to 128 letters, digits, '.', '_' or '-'")
    return value


def _application(value: str) -> str:
    if not APPLICATION.fullmatch(value):
        raise _wrong(
            f"{shown_value(value)} cannot name a DynamoDB table",
            "Write 3 to 238 letters, digits, '.', '_' or '-'; no spaces",
        )
    return value


def _start(value: object) -> object:
    """TOML has times of its own; KCL wants an instant, so a time needs its zone."""
    if value in ("TRIM_HORIZON", "LATEST") or not isinstance(value, str | datetime):
        return value
    try:
        when = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except ValueError:
        when = None
    shown = shown_value(str(value))
    if when is None or when.tzinfo is None:
        problem = f"{shown} is no place in a stream" if when is None else f"{shown} has no time zone"
        raise _wrong(problem, 'Write "TRIM_HORIZON", "LATEST" or a time such as "2026-11-23T08:00:00Z"')
    if when > datetime.now(UTC):
        raise _wrong(f"{shown} lies ahead", 'Write "LATEST" to begin now, or a time that has passed')
    return when.isoformat()


def _factory(value: str) -> str:
    if not FACTORY.fullmatch(value):
        raise _wrong(
            f"{shown_value(value)} is not of the form module:attribute", 'Write for example "examples.minilm:MiniLM"'
        )
    return value


def _count(value: object) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise _wrong(f"{shown_value(value)} is no count", 'Write "auto" or a whole number of at least 1')


def _memory(value: object) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise _wrong(f"{shown_value(value)} is no memory", 'Write "auto", a whole number of MiB, or 0 for no limit')


def _seconds(value: object) -> float | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf"):
        return float(value)
    raise _wrong(f"{shown_value(value)} is no number of seconds", 'Write "auto" or a number above 0')


def _url(value: str) -> str:
    bucket = value.removeprefix("s3://").partition("/")[0]
    if value.startswith("s3://") and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
        raise _wrong(f"{shown_value(value)} names no bucket", "Write s3://bucket/prefix")
    if value.startswith("s3://") and {"", ".", ".."} & set(value[5:].strip("/").split("/")):
        problem = f"{shown_value(value)} has an empty part, or one that is . or .."
        raise _wrong(problem, "Write it without: S3 has such keys, and readers take them for others")
    if not value or ("://" in value and not value.startswith("s3://")) or "\0" in value:
        raise _wrong(
            f"{shown_value(value)} is neither on S3 nor a folder", "Write s3://bucket/prefix, or the path of a folder"
        )
    return value


def _level(value: object) -> object:
    return value.upper() if isinstance(value, str) and value.upper() in LEVELS else value


def _passthrough(value: dict[str, str]) -> dict[str, str]:
    for field, kind in value.items():
        if kind not in CARRY_TYPES:
            raise _wrong(f"{field} = {shown_value(kind)} is no type", f"Write one of {', '.join(CARRY_TYPES)}")
        if not field or field.startswith("_"):
            raise _wrong(f'"{field}" cannot be a column', "Readers of Parquet skip what starts with _; rename it")
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
