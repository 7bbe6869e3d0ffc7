"""``penstock deploy``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from consumer.cli.options import Group, json_option

if TYPE_CHECKING:
    from consumer.config.settings import Settings
    from deploy.parameters import Wish


@click.group(cls=Group)
def deploy() -> None:
    """Prepare a deployment with the template deploy/cloudformation/penstock.yaml. Does not call AWS."""


def _wished(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a task's size and number."""
    for option in (
        json_option,
        click.option("--weights-mib", type=click.IntRange(0), default=0, help="Size of the model's weights, in MiB."),
        click.option("--shards", type=click.IntRange(1), help="Shards of the stream.  [default: not checked]"),
        click.option("--tasks", type=click.IntRange(0), default=1, show_default=True, help="Number of tasks."),
        click.option("--memory", type=int, default=16384, show_default=True, help="MiB of a task."),
        click.option("--cpu", type=int, default=4096, show_default=True, help="CPU units of a task; 1024 is a vCPU."),
        click.option(
            "--config", "path", type=click.Path(path_type=Path), required=True, metavar="FILE", help="A configuration."
        ),
    ):
        command = option(command)
    return command


@deploy.command()
@_wished
def validate(as_json: bool, **given: Any) -> None:
    """Check that a configuration and the size of its tasks add up.

    Checks the memory of a task, the leases of all tasks against the shards, the drain against the time until ECS kills
    a task, and the sizes that Fargate sells. Exits with 2 and every sum that does not add up.

    \b
    Examples:
      penstock deploy validate --config penstock.toml --tasks 2 --shards 4
      penstock deploy validate --config penstock.toml --cpu 8192 --memory 32768 --weights-mib 1024
    """
    from consumer.cli import output

    _checked(**given)
    if as_json:
        output.emit("deploy.validate", {"adds_up": True})
    else:
        click.echo("The deployment adds up.")


@deploy.command()
@_wished
def render(as_json: bool, **given: Any) -> None:
    """Print the template's parameters for a configuration.

    The lines are for --parameter-overrides of aws cloudformation deploy; add ImageTag. The stack makes its own bucket:
    a URL of the configuration gives the prefix. Refuses what penstock deploy validate refuses.

    \b
    Examples:
      penstock deploy render --config penstock.toml --tasks 2 --shards 4
      penstock deploy render --config penstock.toml --json
    """
    from consumer.cli import output
    from deploy.parameters import parameters

    rendered = parameters(*_checked(**given))
    if as_json:
        output.emit("deploy.render", {"parameters": rendered})
    else:
        click.echo("\n".join(f"{name}={value}" for name, value in rendered.items()))


def _checked(
    path: Path, cpu: int, memory: int, tasks: int, shards: int | None, weights_mib: int
) -> tuple[Settings, Wish]:
    from consumer.config.load import load
    from deploy.parameters import Wish, problems
    from pipeline.errors import UserError

    settings, wish = load(path), Wish(cpu, memory, tasks, shards, weights_mib)
    if found := list(problems(settings, wish)):
        raise UserError("\n".join(["the deployment does not add up:", *(f"  {each}" for each in found)]))
    return settings, wish
