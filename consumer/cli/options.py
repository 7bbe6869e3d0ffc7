"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import functools
import math
import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

Command = Callable[..., Any]
C = TypeVar("C", bound=Command)

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
execute_option = click.option(
    "--execute", is_flag=True, help="Carry out the plan. Without this option, only print the plan."
)

framing_option = click.option(
    "--framing",
    type=click.Choice(["lines", "lengths"]),
    default="lines",
    show_default=True,
    help="Format of a file: one record per line, or for binary records a length of 4 bytes (big-endian) before each "
    "record.",
)
count_option = click.option(
    "--count", type=click.IntRange(1), default=1000, show_default=True, help="Maximum number of records."
)


def config_option(
    help: str, *, name: str = "config_path", required: bool = False, metavar: str = "FILE"
) -> Callable[[C], C]:
    """``--config``; the command gets ``name``, a path, or None where it is not ``required``."""
    given = click.Path(path_type=Path)
    return click.option("--config", name, type=given, required=required, metavar=metavar, help=help)


LONGEST_SUMMARY = 200
"""Of a command, in its group's list: longer than any first sentence."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Group(click.Group):
    """A group of commands. Its list shows the whole first sentence of each one's help, which click would cut."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list; a sentence that is longer than a line is wrapped."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, each.get_short_help_str(LONGEST_SUMMARY)) for name, each in commands if each and not each.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class Finite(click.FloatRange):
    """A number in a range that is not NaN, which is in every range of click's, and not infinite."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; :raises click.BadParameter: it is none, or outside the range."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number. Write for example 0.5", param, ctx)
        return number


MOST_S = 3660 * 86400
"""The longest duration: ten years. A stream keeps records for one at most."""


class Duration(click.ParamType[float]):
    """Seconds, from a number with a unit: 90s, 30m, 2h, 7d. A shorter one than ``least_s`` is a mistake."""

    name = "duration"

    def __init__(self, least_s: float = 0.0) -> None:
        self.least_s = least_s

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds as a float; :raises click.BadParameter: for another form."""
        if isinstance(value, int | float):
            return float(value)
        seconds = _duration_s(value)
        if seconds is None:
            self.fail(f"{value!r} is not a duration. Write for example 90s, 30m, 2h or 7d", param, ctx)
        if seconds > MOST_S:
            self.fail(f"{value!r} is too long. Write {MOST_S // 86400}d or less", param, ctx)
        if seconds < self.least_s:
            self.fail(f"{value!r} is too short. Write {self.least_s:g}s or more", param, ctx)
        return seconds


class Time(click.ParamType[datetime]):
    """A moment as an aware ``datetime``: ISO 8601 with a zone, or a duration before now, such as ``2h ago``."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The moment in UTC; :raises click.BadParameter: for another form, or a time without a zone."""
        if isinstance(value, datetime):
            return value
        before_s = _duration_s(value.removesuffix("ago").rstrip()) if value.endswith("ago") else None
        try:
            moment = datetime.fromisoformat(value) if before_s is None else datetime.now(UTC) - timedelta(0, before_s)
            in_utc = moment.astimezone(UTC) if moment.tzinfo is not None else None
        except ValueError:
            self.fail(f"{value!r} is not a time. Write for example 2026-01-31T08:00:00Z, or '2h ago'", param, ctx)
        except OverflowError:
            self.fail(f"{value!r} is not in the years 1970 to 9998. Write a later or an earlier time", param, ctx)
        if in_utc is None:
            self.fail(f"{value!r} has no zone. Write {value}Z for UTC", param, ctx)
        if not 1970 <= in_utc.year < 9999:
            self.fail(f"{value!r} is not in the years 1970 to 9998. Write a later or an earlier time", param, ctx)
        return in_utc


class RecordRate(click.ParamType[float]):
    """Records per second: a finite number of ``LEAST`` or more."""

    name = "rate"
    LEAST = 0.001

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; :raises click.BadParameter: for text, NaN, an infinity, and a number that is too small."""
        try:
            rate = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number. Write how many records per second, such as 50", param, ctx)
        if not self.LEAST <= rate < math.inf:
            self.fail(f"{value!r} is not a rate. Write a number of {self.LEAST} or more", param, ctx)
        return rate


class _Checked(click.ParamType[str]):
    """A text that follows a rule of the settings. The rule returns the problem and the fix."""

    def mistake_in(self, value: str) -> tuple[str, str] | None:
        """Return the mistake in the text, or None."""
        raise NotImplementedError

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The same text; :raises UserError: in one line, if it does not follow the rule."""
        from pipeline.errors import UserError
        from pipeline.escape import shown

        if mistake := self.mistake_in(value):
            where = param.human_readable_name if isinstance(param, click.Argument) else param.opts[0] if param else ""
            raise UserError(f'{where}: "{shown(value)}" {mistake[0]}. {mistake[1]}')
        return str(value)


class StoreUrl(_Checked):
    """The URL of a table or of dead letters: ``s3://bucket/prefix``, or a folder."""

    name = "url"

    def mistake_in(self, value: str) -> tuple[str, str] | None:
        """By :mod:`pipeline.stores.urls`."""
        from pipeline.stores.urls import mistake_in

        return mistake_in(value)


class StreamName(_Checked):
    """The name of a stream, not its ARN."""

    name = "stream"

    def mistake_in(self, value: str) -> tuple[str, str] | None:
        """By :mod:`consumer.config.names`."""
        from consumer.config.names import stream_mistake

        return stream_mistake(value)


class ApplicationName(_Checked):
    """The name of an application, which is that of its lease table."""

    name = "application"

    def mistake_in(self, value: str) -> tuple[str, str] | None:
        """By :mod:`consumer.config.names`."""
        from consumer.config.names import application_mistake

        return application_mistake(value)


DURATION = Duration()
TIME = Time()
RATE = RecordRate()
STORE_URL = StoreUrl()
STREAM_NAME = StreamName()
APPLICATION_NAME = ApplicationName()


def rate_text(rate: float) -> str:
    """A rate as a command takes it: without an exponent, and without zeros at its end."""
    return f"{rate:.6f}".rstrip("0").rstrip(".")


def only_with(option: str, *others: str) -> None:
    """Check that an option which has an effect only with one of ``others`` is not given without. Names as in Python.

    :raises UserError: it would be ignored.
    """
    context = click.get_current_context()
    given = context.get_parameter_source(option) is click.core.ParameterSource.COMMANDLINE
    if given and not any(context.params.get(other) for other in others):
        from pipeline.errors import UserError

        words = [f"--{other.replace('_', '-')}" for other in others]
        raise UserError(
            f"--{option.replace('_', '-')} has an effect only with {' or '.join(words)}. Leave it out otherwise"
        )


def in_order(start: datetime | None, until: datetime | None) -> None:
    """:raises UserError: ``--to`` is not after ``--from``."""
    if start is not None and until is not None and until <= start:
        from pipeline.errors import UserError

        raise UserError("--from is not before --to")


def command_line(command: str, *words: str) -> str:
    """A command as a shell takes it, for the same application: what a message tells the user to run."""
    given = click.get_current_context().params
    names = {"config_path": "--config", "application": "--application", "stream": "--stream"}
    target = [word for name, option in names.items() if given.get(name) for word in (option, str(given[name]))]
    return f"penstock {command} {shlex.join([*target, *words])}"


def application_options(command: Command) -> Command:
    """Adds ``--config`` or ``--application`` with ``--stream``; the command gets ``target``, which has both names."""
    return _target_options(command, needs_application=True)


def stream_options(command: Command) -> Command:
    """As :func:`application_options`, for commands that can do without an application."""
    return _target_options(command, needs_application=False)


def _target_options(command: Command, *, needs_application: bool) -> Command:
    @config_option("The configuration that names the stream and the application.")
    @click.option(
        "--application", type=APPLICATION_NAME, metavar="NAME", help="The KCL application: the name of its lease table."
    )
    @click.option("--stream", type=STREAM_NAME, metavar="NAME", help="The stream.")
    @functools.wraps(command)
    def with_target(
        *args: Any, config_path: Path | None, application: str | None, stream: str | None, **options: Any
    ) -> Any:
        from consumer.admin.application import target

        found = target(config_path, application, stream, needs_application=needs_application)
        return command(*args, target=found, **options)

    return with_target


def _duration_s(text: str) -> float | None:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip())
    return float(found[1]) * _SECONDS[found[2]] if found else None
