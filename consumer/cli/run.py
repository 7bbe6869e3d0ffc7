"""``penstock run``."""

from __future__ import annotations

from pathlib import Path

import click

from consumer.cli.options import config_option


@click.command()
@config_option("The configuration file; see docs/configuration.md.", name="path", required=True)
@click.pass_context
def run(ctx: click.Context, path: Path) -> None:
    """Consume a stream until SIGTERM, then drain and exit. This is the command for containers."""
    from consumer import logs
    from consumer.config.load import load

    settings = load(path)
    logs.configure(settings.log.level, settings.log.format)

    from consumer import app

    ctx.exit(app.run(settings))
