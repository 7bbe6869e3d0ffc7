"""``penstock run``."""

from __future__ import annotations

import gc
from pathlib import Path

import click

from consumer.cli.options import config_option
from pipeline.machine import frugal


@click.command()
@config_option("The configuration file; see docs/configuration.md.", name="path", required=True)
@click.pass_context
def run(ctx: click.Context, path: Path) -> None:
    """Consume a stream until SIGTERM, then drain and exit. This is the command for containers."""
    gc.set_threshold(*frugal.USUAL_THRESHOLDS)
    gc.disable()  # a start makes little garbage, and looking for it takes a seventh of its time; the task enables it
    try:
        ctx.exit(_run(path))
    finally:
        gc.enable()


def _run(path: Path) -> int:
    from consumer import logs
    from consumer.config.load import load

    settings = load(path)
    logs.configure(settings.log.level, settings.log.format)

    from consumer import app

    return app.run(settings)
