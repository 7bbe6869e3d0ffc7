"""``penstock doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from consumer.cli import output
from consumer.cli.options import config_option, json_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumer.admin.doctor.findings import Finding
    from consumer.config.settings import Settings

COLOURS = {"green": "green", "yellow": "yellow", "red": "red"}


@click.command()
@config_option("A configuration.", name="path", required=True)
@click.option(
    "--tasks", type=click.IntRange(1), help="Number of tasks to check for.  [default: the number that run now]"
)
@click.option(
    "--role",
    metavar="ARN",
    help="The role of the tasks, whose permissions are simulated by IAM.  [default: the caller's]",
)
@click.option("--no-load", is_flag=True, help="Do not load the model.")
@json_option
@click.pass_context
def doctor(ctx: click.Context, path: Path, tasks: int | None, role: str | None, no_load: bool, as_json: bool) -> None:
    """Find problems before they occur, and say how to fix each.

    Checks this machine (Java, KCL, cores, memory, disk, clock), the model, and AWS with the caller's credentials:
    permissions, the stream, KCL's tables, the sinks. Writes nothing. Run it where a task will run, such as in the image
    with the task's role, or with --role. Each finding is green, yellow (a risk, or unknown) or red. Exits with 1 if one
    is red.

    \b
    Examples:
      penstock doctor --config penstock.toml --no-load
      penstock doctor --config penstock.toml --tasks 4 --json
    """
    from consumer.admin.doctor.findings import Level, red
    from consumer.config.errors import ConfigErrors
    from consumer.config.load import load
    from pipeline.errors import ConfigError

    found: list[tuple[str, Finding]] = []
    try:
        settings = load(path)
    except (ConfigErrors, ConfigError) as error:
        mistakes = error.errors if isinstance(error, ConfigErrors) else [error]
        found = [("configuration", red(f"{each.key}: {each.problem}", each.fix)) for each in mistakes]
    else:
        for each in _examined(settings, tasks, role, not no_load):
            found.append(each)
            if not as_json:
                _say(*each)
    if as_json:
        _say_json(found)
    elif found and found[0][0] == "configuration":
        for each in found:
            _say(*each)
    levels = [finding.level for _, finding in found]
    if not as_json:
        output.line(", ".join(f"{levels.count(level)} {level}" for level in Level))
    ctx.exit(1 if Level.RED in levels else 0)


def _examined(settings: Settings, tasks: int | None, role: str | None, loads: bool) -> Iterator[tuple[str, Finding]]:
    from consumer.admin.doctor.checks import CHECKS
    from consumer.admin.doctor.findings import examine
    from consumer.admin.doctor.subject import Subject
    from consumer.aws.clients import Aws
    from pipeline.stores import open_store

    aws = Aws()
    subject = Subject(
        settings,
        aws.client,
        lambda url: open_store(url, lambda: aws.client("s3")),
        tasks=tasks,
        role=role,
        loads_model=loads,
    )
    return examine(CHECKS, subject)


def _say(check: str, finding: Finding) -> None:
    from pipeline.escape import shown

    level = click.style(f"{finding.level:6}", fg=COLOURS[finding.level])
    fix = f"  -> {shown(finding.fix)}" if finding.fix else ""
    click.echo(f"{level}  {check:13}  {shown(finding.says)}{fix}")


def _say_json(found: list[tuple[str, Finding]]) -> None:
    from dataclasses import asdict

    output.emit("doctor", {"findings": [{"check": check, **asdict(finding)} for check, finding in found]})
