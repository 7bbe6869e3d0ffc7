"""``make soak``: SIGTERM ends a task within its drain budget, for any duration of its batches."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.report import fit
from consumer.local.process import LocalAWS
from tests.chaos.report import circumstances, progress
from tests.soak.drains import BATCH, BUDGET_S, GRACE_S, Drain, drain

BATCHES_S = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
BUILD = Path("build")
AT_ONCE = 2


@click.command()
@click.option("--seed", type=int, help="Which moments.  [default: by chance]")
@click.option("--batch-s", "batches_s", type=click.FloatRange(min=0.01), multiple=True, help="Of these alone.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout instead of the table.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=BUILD / "soak.json", show_default=True)
@click.pass_context
def main(ctx: click.Context, seed: int | None, batches_s: tuple[float, ...], as_json: bool, out: Path) -> None:
    """Send SIGTERM to real workers during a batch, and check what they leave. Exit code 1 if there is a problem."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    seed = random.randrange(10_000) if seed is None else seed
    console = Console(stderr=as_json, highlight=False)
    fit(console)
    began = time.monotonic()
    with progress(console) as show:
        show("draining")
        drains = _drains(
            batches_s or BATCHES_S, seed, lambda done: show(f"batches of {done.batch_s:g} s: {done.leave_s} s")
        )
    result: dict[str, Any] = {
        **circumstances(),
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
        "grace_s": GRACE_S,
        "budget_s": BUDGET_S,
        "batch": BATCH,
        "ok": not any(done.problems for done in drains),
        "drains": [dataclasses.asdict(done) for done in drains],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    if as_json:
        click.echo(json.dumps(result))
    else:
        _table(console, drains)
    ctx.exit(0 if result["ok"] else 1)


def _drains(batches_s: tuple[float, ...], seed: int, tell: Any) -> list[Drain]:
    """Two at a time, because they mostly sleep. The fastest batches come first."""

    def one(aws: LocalAWS, batch_s: float) -> Drain:
        folder = (BUILD / "soak" / str(int(batch_s * 1000))).resolve()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            done = drain(aws, folder, batch_s, random.Random(f"{seed} {batch_s}"))
        except AssertionError as error:
            done = Drain(batch_s, problems=[str(error)])
        tell(done)
        return done

    with LocalAWS(limits=False) as aws, ThreadPoolExecutor(AT_ONCE) as pool:
        return sorted(pool.map(lambda batch_s: one(aws, batch_s), batches_s), key=lambda done: done.batch_s)


def _table(console: Console, drains: list[Drain]) -> None:
    table = Table(title=f"SIGTERM in mid-batch; {BATCH} records a batch", title_justify="left")
    for name in ("a batch", "left within", "of", "exit code", "finished", "checkpointed", "left to the next"):
        table.add_column(name, justify="right")
    for done in drains:
        table.add_row(
            f"{done.batch_s:g} s",
            f"{done.leave_s:.1f} s",
            f"{done.allowed_s:g} s",
            str(done.exit_code),
            str(done.finished),
            str(done.checkpointed),
            str(done.left_to_the_next),
        )
    console.print(table)
    for done in drains:
        for problem in done.problems:
            console.print(f"  {done.batch_s:g} s: {problem}", style="red", soft_wrap=True, markup=False)


if __name__ == "__main__":
    main()
