"""``penstock init``."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from consumer.cli.options import json_option


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@json_option
def init(folder: Path, as_json: bool) -> None:
    """Create a first project in DIR: a model, a configuration, records and a test.

    They work without changes: the next commands are `penstock try`, pytest and `penstock config check`. Creates DIR if
    it does not exist. Refuses a folder that is not empty, with exit code 3.

    \b
    Examples:
      penstock init my-enrichment
    """
    from consumer.cli import output
    from consumer.tuning.starter import write

    written = write(folder)
    if as_json:
        output.emit("init", {"files": [str(path) for path in written]})
        return
    for path in written:
        output.line(f"wrote {path}")
    output.line("next:")
    for command in ("penstock try --config penstock.toml records.jsonl", "python -m pytest"):
        output.line(f"  {shlex.join(['cd', str(folder)])} && {command}")
