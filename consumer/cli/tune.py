"""``penstock tune``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from consumer.cli.options import Finite, config_option, count_option, framing_option
from consumer.cli.output import emit, line

if TYPE_CHECKING:
    from consumer.config.settings import Settings
    from consumer.tuning.measure import Tuned

FILE = click.Path(path_type=Path)
PIPED_COLUMNS = 1000


@click.command()
@config_option("The configuration file of `penstock run`.", name="path", required=True)
@click.option(
    "--records",
    type=FILE,
    metavar="PATH",
    help="Records to tune with: a file, or a folder with one file per record.  [default: the stream]",
)
@framing_option
@count_option
@click.option(
    "--seconds",
    type=Finite(0, min_open=True),
    default=120,
    show_default=True,
    help="Approximate duration of the measurement, without the model's first start.",
)
@click.option(
    "--output",
    type=FILE,
    metavar="PATH",
    help="Where to write the profile: a folder, or a file that ends with .json.  [default: beside the configuration, "
    "where `penstock run` looks for it]",
)
@click.option("--plot", type=FILE, metavar="FILE", help="Where to write the plot (PNG).  [default: beside the profile]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
def tune(
    path: Path,
    records: Path | None,
    framing: str,
    count: int,
    seconds: float,
    output: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure which numbers of replicas, threads and records per batch are fastest on this machine.

    Runs the model on real records, from the stream or a file, and writes a profile. `penstock run` uses the profile
    for replicas and threads that are "auto". Only reads the stream: takes no lease and writes no checkpoint. Discards
    the model's results. Other load on the machine affects the result.
    """
    from pipeline.extras import require

    require("tune")
    from rich.console import Console

    from consumer.config.load import load
    from consumer.config.profile import path_of, write
    from consumer.tuning.measure import tune as measure
    from consumer.tuning.report import draw, progress
    from consumer.tuning.samples import from_file, from_stream

    settings = load(path)
    found = from_file(records, count, framing) if records else from_stream(settings.stream.name, count)
    with progress(Console(stderr=True), seconds) as tell:
        tuned = measure(settings, found, seconds, tell)
    beside = path_of(path)
    profile = beside if output is None else output if output.suffix == ".json" else output / beside.name
    picture = plot or profile.with_suffix(".png")
    write(tuned.profile, profile)
    draw(tuned, picture)
    _say(settings, tuned, profile, picture, as_json)


def _say(settings: Settings, tuned: Tuned, profile: Path, plot: Path, as_json: bool) -> None:
    from rich.console import Console

    from consumer.config.profile import path_of
    from consumer.tuning import report

    if as_json:
        emit("tune", report.as_json(tuned, profile, plot))
        return
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:  # no edge, where rich assumes 80 columns
        console.width = max(console.width, PIPED_COLUMNS)
    console.print(report.table(tuned))
    best, target_ms = tuned.profile, settings.batch.target_latency_ms
    click.echo()
    line(
        f"best: replicas = {best.replicas}, threads = {best.threads}, batches of {best.records}: "
        f"{best.records_per_s:,.1f} records/s, {best.call_ms:,.2f} ms a call"
    )
    if target_ms and best.call_ms > target_ms:
        line(f"no batch met batch.target_latency_ms ({target_ms:g}); this one came closest")
    used = settings.path is not None and profile.resolve() == path_of(settings.path).resolve()
    where = "`penstock run` uses it" if used else "`penstock run` uses it once it is beside the configuration"
    line(f"profile: {profile} ({where})")
    line(f"plot: {plot}")
