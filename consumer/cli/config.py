"""``penstock config``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from consumer.cli.options import Group
from consumer.cli.output import emit, line, note

if TYPE_CHECKING:
    from consumer.config.settings import Settings
    from pipeline.errors import UserError

FILE = click.argument("path", metavar="FILE", type=click.Path(path_type=Path))


@click.group(cls=Group)
def config() -> None:
    """Check a configuration, or show all of its settings."""


@config.command()
@FILE
@click.option(
    "--load", "loads", is_flag=True, help="Also load the model, as `penstock run` does, and predict its example."
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print {schema, ok, mistakes: [{key, problem, fix, traceback}]} on stdout.",
)
@click.pass_context
def check(ctx: click.Context, path: Path, loads: bool, as_json: bool) -> None:
    """Report every mistake in FILE and the environment, with its key, value and fix.

    Checks that the model's module exists. With --load, also loads and warms up the model in a separate process, and
    checks its columns and its speed as `penstock run` does. If the model's code raises an error, its file and line are
    shown; `penstock --debug config check` shows the whole traceback. Does not call AWS.

    \b
    Examples:
      penstock config check penstock.toml
      penstock config check penstock.toml --load
    """
    from consumer.config.errors import ConfigErrors
    from pipeline import escape
    from pipeline.errors import ConfigError, ModelError

    try:
        said = _checked(path, loads)
    except (ConfigErrors, ConfigError, ModelError) as error:
        if not as_json:
            raise
        emit("config.check", {"ok": False, "mistakes": escape.harmless(_mistakes(error))})
        ctx.exit(error.exit_code)
    if as_json:
        emit("config.check", {"ok": True, "mistakes": []})
    else:
        line(f"{path}: no mistakes{said}")


def _checked(path: Path, loads: bool) -> str:
    """Load the model and return a phrase about it.

    :raises UserError: if it cannot be loaded.
    """
    from consumer.config.errors import ConfigErrors
    from consumer.config.load import load
    from pipeline.errors import brief_s

    settings = load(path)

    from consumer.admin import check_model

    if mistake := check_model.missing_module(settings):
        raise ConfigErrors(str(path), [mistake], {})
    if not loads:
        return ""
    loaded = check_model.load(settings)
    for warning in loaded.warnings:
        note(f"{path}: {warning}")
    example = "it has no example()" if loaded.example_s is None else f"its example takes {brief_s(loaded.example_s)}"
    return f"; the model loads in {loaded.took_s:.1f} s, and {example}"


def _mistakes(error: UserError) -> list[dict[str, str | None]]:
    from consumer.config.errors import ConfigErrors
    from pipeline.errors import ConfigError, ModelError

    if isinstance(error, ConfigErrors | ConfigError):
        found = error.errors if isinstance(error, ConfigErrors) else [error]
        return [{"key": each.key, "problem": each.problem, "fix": each.fix, "traceback": None} for each in found]
    traceback = error.traceback if isinstance(error, ModelError) else ""
    return [{"key": "model.factory", "problem": str(error), "fix": "Fix the model", "traceback": traceback or None}]


@config.command()
@FILE
@click.option("--json", "as_json", is_flag=True, help="Print {schema, settings: {key: {value, source}}} on stdout.")
def show(path: Path, as_json: bool) -> None:
    """Show every setting, its value, and its source: the file, the environment, or a default.

    For replicas and threads that are "auto", also shows the number used on this machine.

    \b
    Examples:
      penstock config show penstock.toml
    """
    from consumer.config.load import load
    from pipeline import escape

    settings = load(path)
    rows = _rows(settings)
    here = _here(settings)
    if as_json:
        shown = {key: {"value": value, "source": source} for key, value, source in rows}
        said = {key: {**row, **({"here": here[key]} if key in here else {})} for key, row in shown.items()}
        emit("config.show", {"settings": said})
        return
    width = max(len(_line(key, value)) for key, value, _ in rows)
    for key, value, source in rows:
        comment = f"{source}; here {here[key]}" if key in here else source
        told = click.style(f"# {escape.shown(comment)}", dim=source == "default")
        click.echo(f"{escape.shown(_line(key, value)):{min(width, 72)}}  {told}")


def _rows(settings: Settings) -> list[tuple[str, Any, str]]:
    from consumer.config.sources import leaves

    values = leaves(settings.model_dump(mode="json"))
    return [(key, value, settings.sources.get(key, "default")) for key, value in values]


def _here(settings: Settings) -> dict[str, int]:
    """The values of ``auto`` on this machine."""
    from consumer.config.profile import counts

    replicas, threads = counts(settings)
    told = {"model.replicas": settings.model.replicas, "model.threads": settings.model.threads}
    resolved = {"model.replicas": replicas, "model.threads": threads}
    return {key: resolved[key] for key, value in told.items() if value == "auto"}


def _line(key: str, value: object) -> str:
    import json

    return f"{key} = {json.dumps(value, ensure_ascii=False)}"
