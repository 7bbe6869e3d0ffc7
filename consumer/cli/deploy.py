"""``penstock deploy``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from consumer.cli.options import Group, config_option, json_option

if TYPE_CHECKING:
    from consumer.config.settings import Settings

FILE = click.Path(path_type=Path)


@click.group(cls=Group)
def deploy() -> None:
    """Prepare a deployment with the templates of deploy/cloudformation."""


def _sizing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a task's size and number, and of the template's other parameters."""
    for option in (
        json_option,
        click.option(
            "--set",
            "pairs",
            multiple=True,
            metavar="NAME=VALUE",
            help="A template parameter that is not in the configuration, such as ImageTag=model-2. It is checked like "
            "the others. Can be repeated.",
        ),
        click.option(
            "--gpus", type=click.IntRange(0), default=0, help="GPUs of a task, for gpu.yaml.  [default: none]"
        ),
        click.option("--weights-mib", type=click.IntRange(0), default=0, help="Size of the model's weights, in MiB."),
        click.option("--shards", type=click.IntRange(1), help="Shards of the stream.  [default: not checked]"),
        click.option("--tasks", type=click.IntRange(0), default=1, show_default=True, help="Number of tasks."),
        click.option("--memory", type=int, default=16384, show_default=True, help="MiB of a task."),
        click.option("--cpu", type=int, default=4096, show_default=True, help="CPU units of a task; 1024 is a vCPU."),
        config_option("A configuration.", name="path", required=True),
    ):
        command = option(command)
    return command


@deploy.command()
@_sizing_options
def validate(as_json: bool, **options: Any) -> None:
    """Check that a configuration and the size of its tasks add up. Does not call AWS.

    Checks the memory of a task, the leases of all tasks against the shards, the drain against the time until ECS kills
    a task, the flush interval against the alarms, and every parameter against the patterns, bounds and rules of the
    template. If a check fails, prints each failed check with its numbers and exits with 2. With
    `model.replicas = "auto"`, the check uses the number that a task would use: one per GPU, else that of the profile of
    `penstock tune` if it is valid there, else one.

    \b
    Examples:
      penstock deploy validate --config penstock.toml --tasks 2 --shards 4
      penstock deploy validate --config penstock.toml --cpu 8192 --memory 32768 --weights-mib 1024
    """
    from consumer.cli import output

    _checked(**options)
    if as_json:
        output.emit("deploy.validate", {"adds_up": True})
    else:
        output.line("The deployment adds up.")


@deploy.command()
@_sizing_options
@click.option(
    "--template",
    type=FILE,
    metavar="FILE",
    help="Also write penstock.yaml to FILE, with the model's columns in its table. Loads the model.",
)
def render(as_json: bool, template: Path | None, **options: Any) -> None:
    """Print the template's parameters for a configuration. Does not call AWS.

    The lines are for --parameter-overrides of the AWS CLI's cloudformation deploy. The stack creates its own bucket; a
    URL of the configuration only gives the prefix. Refuses what penstock deploy validate refuses.

    \b
    Examples:
      penstock deploy render --config penstock.toml --tasks 2 --shards 4 --set ImageTag=model-1
      penstock deploy render --config penstock.toml --template stack.yaml
      penstock deploy render --config penstock.toml --json
    """
    from consumer.cli import output

    settings, rendered = _checked(**options)
    if template is not None:
        _write(template, settings)
    if as_json:
        output.emit("deploy.render", {"parameters": rendered})
    else:
        for name, value in rendered.items():
            output.line(f"{name}={value}")


@deploy.command()
@_sizing_options
@click.option(
    "--stack", metavar="NAME", help="The deployed stack.  [default: the application's name, with -gpu if --gpus]"
)
def diff(as_json: bool, stack: str | None, **options: Any) -> None:
    """Compare a configuration with a deployed stack: each parameter that would change, with both values.

    Parameters that are not rendered keep their values. Exits with 4 if nothing would change.

    \b
    Examples:
      penstock deploy diff --config penstock.toml --tasks 2 --set ImageTag=model-2
      penstock deploy diff --config penstock.toml --stack penstock-events --json
    """
    from consumer.aws.clients import Aws
    from consumer.aws.stacks import described
    from consumer.cli import output
    from deploy.changes import changes, deployed
    from pipeline.errors import NothingToDo

    settings, rendered = _checked(**options)
    aws = Aws()
    name = stack or settings.stream.application + ("-gpu" if options["gpus"] else "")
    found = aws.ask(f"stack {name}", lambda: described(aws.client("cloudformation"), name))
    if found is None:
        output.note(f"There is no stack {name}: every parameter is new.")
    planned = changes(deployed(found or {}), rendered)
    if as_json:
        shown = [{"parameter": change.name, "now": change.now, "then": change.then} for change in planned]
        output.emit("deploy.diff", {"stack": name, "exists": found is not None, "changes": shown})
    elif planned:
        rows = [(change.name, "-" if change.now is None else change.now, change.then) for change in planned]
        output.table(("parameter", "now", "then"), rows)
    if not planned:
        raise NothingToDo(f"Stack {name} has these parameters already.")


def _checked(
    path: Path,
    cpu: int,
    memory: int,
    tasks: int,
    shards: int | None,
    weights_mib: int,
    gpus: int,
    pairs: tuple[str, ...],
) -> tuple[Settings, dict[str, str]]:
    """The configuration, and the template's parameters."""
    import dataclasses

    from consumer.cli import output
    from consumer.config import profile
    from consumer.config.load import load
    from deploy.parameters import Sizing, parameters, problems
    from pipeline.errors import UserErrors

    settings = load(path)
    chosen = _chosen(pairs, gpu=bool(gpus))
    sizing = Sizing(cpu, memory, tasks, shards, weights_mib, gpus).with_parameters(chosen)
    found = profile.for_task(settings, vcpus=sizing.vcpus, gpu_count=sizing.gpus, memory_mib=sizing.memory_mib)
    if found.profile is None and profile.path_of(path).exists():
        output.note(found.said)
    sizing = dataclasses.replace(sizing, profile=found.profile)
    if wrong := list(problems(settings, sizing, chosen)):
        raise UserErrors("the deployment does not add up:", wrong)
    return settings, parameters(settings, sizing) | chosen


def _chosen(pairs: tuple[str, ...], *, gpu: bool) -> dict[str, str]:
    from deploy.changes import given
    from deploy.templates import parameter_names, template
    from pipeline.errors import UserError

    try:
        return given(pairs, parameter_names(template(gpu=gpu)))
    except ValueError as error:
        raise UserError(f"--set: {error}") from None


def _write(path: Path, settings: Settings) -> None:
    from consumer.admin import check_model
    from consumer.cli import output
    from deploy.templates import LARGEST_BYTES, columns, template, with_columns
    from pipeline.errors import UserError, counted

    if mistake := check_model.missing_module(settings):
        raise mistake
    rows = check_model.load(settings).rows
    assert rows is not None
    text = with_columns(template(), columns(rows))
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}). Choose another file") from None
    output.note(f"{path}: the template, with {counted(len(rows), 'column')} of the model")
    if (size := len(text.encode())) > LARGEST_BYTES:
        output.note(f"{path}: {size:,} bytes are more than {LARGEST_BYTES:,}: deploy it with --s3-bucket")
