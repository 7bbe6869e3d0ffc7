"""``penstock demo``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--records", type=click.IntRange(1), default=2000, show_default=True, help="Number of docstrings to enrich."
)
@click.option(
    "--broken",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Number of additional records that the model cannot use; each becomes a dead letter.",
)
@click.option("--shards", type=click.IntRange(1, 64), default=2, show_default=True, help="Number of shards.")
@click.option("--workers", type=click.IntRange(1, 16), default=1, show_default=True, help="Number of consumers.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Output folder for Parquet; must be new or empty.  [default: a new one in penstock-demo]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Selects the docstrings and their order.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout instead of the tables.")
@click.pass_context
def demo(
    ctx: click.Context, records: int, broken: int, shards: int, workers: int, out: Path | None, seed: int, as_json: bool
) -> None:
    """Enrich Python's own docstrings with a real model, on this machine.

    Starts a local AWS, puts the docstrings on a stream, runs the consumer, and shows the resulting table.
    """
    from importlib.util import find_spec

    from pipeline.errors import UserError
    from pipeline.extras import require

    if find_spec("examples") is None:
        raise UserError("The demo is part of Penstock's source, not of the package. Get the source; run: make demo")
    require("demo")
    from examples.demo.run import DemoOptions
    from examples.demo.run import demo as run_demo

    options = DemoOptions(
        records=records, broken=broken, shards=shards, workers=workers, out=out, seed=seed, json=as_json
    )
    ctx.exit(run_demo(options))
