"""Types of single settings. Each check reports the problem and what to write instead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, GetCoreSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

from consumer.config.errors import plain_number, shown_value
from consumer.config.names import application_mistake, stream_mistake
from pipeline.errors import ConfigError
from pipeline.stores.urls import mistake_in
from pipeline.table import column_names

FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
FILE = re.compile(r"(?:\./)?([A-Za-z_][\w./]*)\.py(?:(?::|::)([A-Za-z_][\w.]*)?)?")
"""A file in place of a module: ``sentiment.py:Sentiment``, ``./models/sentiment.py``."""
STOP_TIMEOUT_S = 120
"""Maximum seconds that ECS waits between SIGTERM and SIGKILL."""
DAY_S = 86_400
WEEK_S = 7 * DAY_S
DOUBTFUL = 2
"""Number of deaths after which a shard is read carefully. A single death may have any cause: a machine fails, a
container is evicted."""

LEAST_TASKS = DOUBTFUL + 1 + 2
"""Minimum of ``give_up_after_tasks``: at least two tasks must have died while they tried the record alone."""

REMEMBERED = 8
"""Number of deaths that a note on a lease keeps, with their reasons."""

MOST_TASKS = REMEMBERED + DOUBTFUL
"""Maximum of ``give_up_after_tasks``: a note cannot count more deaths."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
CARRY_TYPES = (
    *("string", "int64", "float64", "bool", "timestamp"),
    *("timestamp[s]", "timestamp[ms]", "timestamp[us]", "timestamp[ns]"),
)


def _wrong(problem: str, fix: str) -> PydanticCustomError:
    return PydanticCustomError("wrong", "{problem}", {"problem": problem, "fix": fix})


def _name(value: str) -> str:
    if mistake := stream_mistake(value):
        raise _wrong(f"{shown_value(value)} {mistake[0]}", mistake[1])
    return value


def _application(value: str) -> str:
    if mistake := application_mistake(value):
        raise _wrong(f"{shown_value(value)} {mistake[0]}", mistake[1])
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
    if when < EPOCH:
        raise _wrong(
            f"{shown} is before 1970, which Kinesis cannot read from", 'Write "TRIM_HORIZON" for the oldest record'
        )
    if when > datetime.now(UTC):
        raise _wrong(f"{shown} is in the future", 'Write "LATEST" to start now, or a time in the past')
    return when.isoformat()


def _factory(value: str) -> str:
    if file := FILE.fullmatch(value):
        module = file[1].replace("/", ".")
        fix = f'Write "{module}:{file[2] or "CLASS"}", the module without .py, as an import names it'
        raise _wrong(f"{shown_value(value)} names a file, not a module", fix)
    if not FACTORY.fullmatch(value):
        raise _wrong(
            f"{shown_value(value)} is not of the form module:attribute", 'For example: "examples.minilm:MiniLM"'
        )
    return value


@dataclass(frozen=True, slots=True)
class AutoOr:
    """``auto``, or a number of ``kind`` within the limits. ``what`` names such a number in messages."""

    kind: type[int | float]
    what: str
    ge: float | None = None
    gt: float | None = None
    le: float | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Validate with :meth:`checked` alone."""
        return core_schema.no_info_plain_validator_function(self.checked)

    def checked(self, value: object) -> float | Literal["auto"]:
        """Return the value; raises ``PydanticCustomError`` with the limits."""
        if value == "auto":
            return "auto"
        allowed = int if self.kind is int else int | float
        if not isinstance(value, allowed) or isinstance(value, bool) or not self._large_enough(value):
            raise _wrong(f"{shown_value(value)} is not a {self.what}", self._fix())
        if self.le is not None and value > self.le:
            raise _wrong(f"{shown_value(value)} is too large", f"Write at most {plain_number(self.le)}")
        return self.kind(value)

    def _large_enough(self, value: float) -> bool:
        return (self.ge is None or value >= self.ge) and (self.gt is None or value > self.gt)

    def _fix(self) -> str:
        if self.ge == 0:
            return 'Write "auto", a whole number of MiB, or 0 for no limit'
        least = f"above {plain_number(self.gt)}" if self.gt is not None else f"of at least {plain_number(self.ge or 0)}"
        return f'Write "auto" or a {"whole " if self.kind is int else ""}number {least}'


def _url(value: str) -> str:
    if mistake := mistake_in(value):
        raise _wrong(f"{shown_value(value)} {mistake.problem}", mistake.fix)
    return value


def _level(value: object) -> object:
    return value.upper() if isinstance(value, str) and value.upper() in LEVELS else value


def _passthrough(value: dict[str, str]) -> dict[str, str]:
    for field, kind in value.items():
        if kind not in CARRY_TYPES:
            raise _wrong(f"{field} = {shown_value(kind)} is not a type", f"Write one of {', '.join(CARRY_TYPES)}")
        if not field:
            raise _wrong("the empty name cannot be a column", "Write the name of a field, or remove the line")
        if field.startswith("_"):
            raise _wrong(f'"{field}" cannot be a column', "Rename it: Parquet readers skip names that start with _")
    try:
        column_names.check(value, value)
    except ConfigError as error:
        raise _wrong(error.problem, error.fix.removesuffix(".")) from None
    return value


StreamNameText = Annotated[str, AfterValidator(_name)]
Url = Annotated[str, AfterValidator(_url)]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_level)]
