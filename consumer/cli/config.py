"""``penstock config``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from consumer.config.settings import Settings

FILE = click.argument("path", metavar="FILE", type=click.Path(path_type=Path))


@click.group()
def config() -> None:
    """Check a configuration, or show what it comes to."""


@config.command()
@FILE
@click.option("--json", "as_json", is_flag=True, help="Print {ok, mistakes: [{key, problem, fix}]} on stdout.")
@click.pass_context
def check(ctx: click.Context, path: Path, as_json: bool) -> None:
    """Tell every mistake in FILE and the environment: key, value and fix."""
    from consumer.config.errors import ConfigErrors
    from consumer.config.load import load

    try:
        load(path)
    except ConfigErrors as errors:
        if not as_json:
            raise
        mistakes = [{"key": error.key, "problem": error.problem, "fix": error.fix} for error in errors.errors]
        _print_json({"ok": False, "mistakes": mistakes})
        ctx.exit(errors.exit_code)
    if as_json:
        _print_json({"ok": True, "mistakes": []})
    else:
        click.echo(f"{path}: no mistakes")


@config.command()
@FILE
@click.option("--json", "as_json", is_flag=True, help="Print {key: {value, source}} on stdout.")
def show(path: Path, as_json: bool) -> None:
    """Show every setting with its value and where it comes from: the file, the environment, or a default.

    Of replicas and threads that are "auto" also what they come to here, by the profile of `penstock tune` or the cores.
    """
    from consumer.config.load import load

    settings = load(path)
    rows = _rows(settings)
    here = _here(settings)
    if as_json:
        shown = {key: {"value": value, "source": source} for key, value, source in rows}
        _print_json({key: {**row, **({"here": here[key]} if key in here else {})} for key, row in shown.items()})
        return
    width = max(len(_line(key, value)) for key, value, _ in rows)
    for key, value, source in rows:
        said = f"{source}; here {here[key]}" if key in here else source
        click.echo(f"{_line(key, value):{min(width, 72)}}  {click.style(f'# {said}', dim=source == 'default')}")


def _rows(settings: Settings) -> list[tuple[str, Any, str]]:
    from consumer.config.sources import leaves

    values = leaves(settings.model_dump(mode="json"))
    return [(key, value, settings.sources.get(key, "default")) for key, value in values]


def _here(settings: Settings) -> dict[str, int]:
    """What ``auto`` comes to on this machine."""
    from consumer.config.profile import counts

    replicas, threads = counts(settings)
    told = {"model.replicas": settings.model.replicas, "model.threads": settings.model.threads}
    resolved = {"model.replicas": replicas, "model.threads": threads}
    return {key: resolved[key] for key, value in told.items() if value == "auto"}


def _line(key: str, value: object) -> str:
    import json

    return f"{key} = {json.dumps(value, ensure_ascii=False)}"


def _print_json(value: object) -> None:
    import json

    click.echo(json.dumps(value, ensure_ascii=False))
