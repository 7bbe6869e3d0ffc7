"""``penstock run``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The configuration file; see docs/configuration.md.",
)
@click.pass_context
def run(ctx: click.Context, path: Path) -> None:
    """Consume a stream until SIGTERM, then drain and exit. This is the command for containers."""
    from consumer import logs
    from consumer.config.load import load

    settings = load(path)
    logs.configure(settings.log.level, settings.log.format)

    from consumer import app

    ctx.exit(app.run(settings))
