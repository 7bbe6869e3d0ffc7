"""The command line: parse, call, print. Commands import what they need when they run, so that help is instant."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import click

from consumer import signals
from consumer.cli.audit import audit
from consumer.cli.config import config
from consumer.cli.dead_letters.command import dead_letters
from consumer.cli.demo import demo
from consumer.cli.deploy import deploy
from consumer.cli.diff import diff
from consumer.cli.doctor import doctor
from consumer.cli.init import init
from consumer.cli.leases.command import leases
from consumer.cli.local import local
from consumer.cli.options import Group
from consumer.cli.promote import promote
from consumer.cli.put import put
from consumer.cli.replay.command import replay
from consumer.cli.run import run
from consumer.cli.shards.command import shards
from consumer.cli.status.command import status
from consumer.cli.tail import tail
from consumer.cli.try_ import try_
from consumer.cli.tune import tune
from pipeline.errors import ModelError, PenstockError, UserErrors
from pipeline.escape import shown, shown_lines
from pipeline.machine import frugal

INTERRUPTED = 130
"""The exit code that shells expect of a program that Ctrl-C ended."""


SHORT_NAMES = {"dlq": "dead-letters"}
"""Short names of commands."""


class Commands(Group):
    """The one place where an error becomes a line on stderr and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Prepare the process before click parses anything."""
        signals.before_all()
        frugal.begin()
        return super().main(*args, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the options before the command's name."""
        with _one_line():
            return super().make_context(*args, **kwargs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find a command by its name or its short name."""
        return super().get_command(ctx, SHORT_NAMES.get(cmd_name, cmd_name))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; exit with the error's code, or 130 after Ctrl-C. ``--debug`` prints the traceback, and what
        parts of Penstock log meanwhile.
        """
        try:
            with _one_line(), _log() if ctx.params["debug"] else contextlib.nullcontext():
                return super().invoke(ctx)
        except Exception as error:
            if (told := _of_ours(error)) is None:
                raise
            if ctx.params["debug"]:
                traceback.print_exc()
            _tell(told, debug=ctx.params["debug"])
            ctx.exit(told.exit_code)
        except KeyboardInterrupt:
            if ctx.params["debug"]:
                traceback.print_exc()
            ctx.exit(INTERRUPTED)


def _of_ours(error: Exception) -> PenstockError | None:
    """The error for the user: a Penstock error, or one of AWS that no command expects; None for any other error."""
    if isinstance(error, PenstockError) or "botocore.exceptions" not in sys.modules:
        return error if isinstance(error, PenstockError) else None
    from consumer.aws.clients import user_error

    return user_error(error)


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """Escape the text of click's own errors: some quote an argument as it is."""
    try:
        yield
    except click.ClickException as error:
        vars(error)["message"] = shown(error.message)  # Final, to a type checker
        raise


@contextlib.contextmanager
def _log() -> Iterator[None]:
    """Print log records on stderr: with what the model's process prints, for example."""
    import logging

    from consumer.logs import TextLines

    root, handler = logging.getLogger(), logging.StreamHandler()
    handler.setFormatter(TextLines("%(levelname)-7s %(name)s  %(message)s"))
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def _tell(error: PenstockError, *, debug: bool) -> None:
    """The error as text on one line (several mistakes: one line each), or as a log line if the logs are JSON lines.

    The traceback of the model's own exception: with ``--debug``; and in the log of a task, because that is all that
    remains of it.
    """
    logs = sys.modules.get("consumer.logs")
    trace = error.traceback if isinstance(error, ModelError) else ""
    is_task = logs is not None and logs.are_configured()
    if trace and debug:
        click.echo(f"\nIn the model's process:\n\n{shown_lines(trace, '')}", err=True)
    elif trace and is_task:
        import logging

        from pipeline.tracebacks import log_traceback

        log_traceback(logging.getLogger("model"), error)
    if logs is not None and logs.are_json():
        import logging

        logging.getLogger("penstock").error("%s", error)
    else:
        lines = error.lines if isinstance(error, UserErrors) else (str(error),)
        click.echo("penstock: " + "\n".join(map(shown, lines)), err=True)
    if trace and not debug and not is_task:
        click.echo("  (penstock --debug … shows the traceback)", err=True)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="penstock")
@click.option("--debug", is_flag=True, help="Show the traceback of an error, and the log.")
def main(debug: bool) -> None:
    """Run a heavy model on a Kinesis stream: one model per task, exactly one row per record.

    AWS credentials, region and endpoint come from the standard AWS chain. Exit codes: 0 success, 1 failure,
    2 a mistake that you can fix, 3 refused for safety, 4 nothing to do, 130 interrupted.
    """


for command in (
    audit,
    config,
    dead_letters,
    demo,
    deploy,
    diff,
    doctor,
    init,
    leases,
    local,
    promote,
    put,
    replay,
    run,
    shards,
    tail,
    try_,
    tune,
    status,
):
    main.add_command(command)
