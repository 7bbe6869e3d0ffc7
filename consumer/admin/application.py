"""The stream and the application that a command works on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from consumer.config.load import load
from consumer.config.settings import Settings
from pipeline.errors import UserError


@dataclass(frozen=True, slots=True)
class Target:
    """A stream, the application that reads it, and the application's settings if a file names them.

    ``application`` is None only for commands that need a stream alone.
    """

    stream: str
    application: str | None = None
    settings: Settings | None = None


def target(path: Path | None, application: str | None, stream: str | None, *, needs_application: bool) -> Target:
    """Read the target from ``--config``, or from ``--application`` and ``--stream``.

    :raises UserError: neither is complete, both are given, or the file has a mistake.
    """
    if path is not None:
        if application is not None or stream is not None:
            raise UserError(
                "--config already names the stream and the application. Leave out --stream and --application"
            )
        settings = load(path)
        return Target(settings.stream.name, settings.stream.application, settings)
    if stream is None:
        raise UserError(
            f"Give --config FILE, or {'--application NAME and --stream' if needs_application else '--stream'} NAME"
        )
    if needs_application and application is None:
        raise UserError("Also give --application NAME: the KCL application, which is the name of its lease table")
    return Target(stream, application)
