"""Logs: JSON lines on stderr, text on a terminal. stdout is only for the output of commands."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TextIO

import orjson

from pipeline.escape import Lines, as_text, harmless, shown, shown_lines

Format = Literal["auto", "json", "text"]

OURS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""The attributes of every log record; others come from ``extra=``."""
QUIET = ("botocore", "boto3", "s3transfer", "urllib3", "asyncio", "hypercorn", "uvicorn", "werkzeug", "h2", "hpack")
"""Libraries whose INFO and DEBUG messages are about themselves, not about records."""


class TextLines(logging.Formatter):
    """One line per record, whatever its text; KCL's records and tracebacks continue on indented lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """The message on one line, control characters escaped; KCL's and tracebacks' lines are indented."""
        line = super().formatMessage(record)
        return shown_lines(line) if _goes_on(record) else shown(line)

    def formatException(self, ei: Any) -> str:  # noqa: N802  # logging's name
        """The traceback, each line indented and escaped."""
        return "    " + shown_lines(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802  # logging's name
        """The stack, each line indented and escaped."""
        return "    " + shown_lines(super().formatStack(stack_info))


class JsonLines(logging.Formatter):
    """One JSON object per record: ``ts`` (UTC), ``level``, ``logger``, ``msg``, then ``extra=``'s fields, ``exc``.

    Text is escaped before it becomes JSON, so that it is still safe to print after a JSON reader has decoded it.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON, without control characters."""
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "msg": Lines(record.getMessage()) if _goes_on(record) else record.getMessage(),
        }
        line.update((key, value) for key, value in vars(record).items() if key not in OURS and key not in line)
        if record.exc_info:
            line["exc"] = Lines(self.formatException(record.exc_info))
        if record.stack_info:
            line["stack"] = Lines(record.stack_info)
        return _json(line)


def _goes_on(record: logging.LogRecord) -> bool:
    """Whether it is from KCL, whose records may contain stack traces."""
    return record.name.partition(".")[0] == "kcl"


def _json(line: dict[str, Any]) -> str:
    """As JSON, whatever a producer or a model put into a message: no line is lost because JSON cannot represent it."""
    try:
        return orjson.dumps(harmless(line)).decode()
    except (orjson.JSONEncodeError, RecursionError):
        return json.dumps({key: as_text(value) for key, value in line.items()})


def configure(level: str, format: Format, stream: TextIO | None = None) -> None:
    """Send every log record of this process to ``stream`` (stderr), and Python's warnings with them.

    ``auto`` means text where ``stream`` is a terminal. May be called again; the last call counts.
    """
    stream = stream or sys.stderr
    handler = _readable(stream) if _is_text(format, stream) else logging.StreamHandler(stream)
    if not _is_text(format, stream):
        handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(capture=True)
    sys.excepthook = sys.__excepthook__ if _is_text(format, stream) else _log_the_end


def _log_the_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log an unhandled exception like any other error."""
    logging.getLogger("penstock").critical("%s: %s", kind.__name__, error, exc_info=(kind, error, trace))


def are_configured() -> bool:
    """Whether :func:`configure` was called: this process is a task, and has a log."""
    return any(isinstance(handler.formatter, JsonLines | TextLines) for handler in logging.getLogger().handlers)


def are_json() -> bool:
    """Whether :func:`configure` chose JSON lines."""
    return any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers)


def _is_text(wanted: Format, stream: TextIO) -> bool:
    return wanted == "text" or (wanted == "auto" and stream.isatty())


def _readable(stream: TextIO) -> logging.Handler:
    if not stream.isatty():
        plain = logging.StreamHandler(stream)
        plain.setFormatter(TextLines("%(asctime)s %(levelname)-7s %(name)s  %(message)s", "%H:%M:%S"))
        return plain
    from rich.console import Console
    from rich.highlighter import NullHighlighter
    from rich.logging import RichHandler

    console = Console(file=stream)
    rich = RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S", highlighter=NullHighlighter())
    rich.setFormatter(TextLines("%(message)s"))
    return rich
