"""``make chaos``: three runs at the same time, each on its own local AWS: a storm of faults, a sink that stalls, and a
model that hangs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks.report import fit
from consumer.local.process import LocalAWS
from tests.chaos import report, stalls
from tests.chaos.run import Weather, storm
from tests.chaos.schedule import deal

BUILD = Path("build")
STORM = "storm"
BESIDES: dict[str, Callable[..., stalls.Stalled]] = {
    "stalled-sink": stalls.stalled_sink,
    "hanging-model": stalls.hanging_model,
}
GIANTS_MINUTES = 10
"""A storm of this many minutes has the largest aggregates in full size; a shorter one has a part of it."""

AFTERWARDS_S = 1_200
"""Seconds for a part to drain and be counted after its minutes."""


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0.1), default=10, show_default=True, help="How long it storms.")
@click.option("--seed", type=int, help="What is done, and to whom.  [default: by chance]")
@click.option("--only", type=click.Choice([STORM, *BESIDES]), help="One part alone.")
@click.option("--downstream", is_flag=True, help="The storm's workers write to a second stream too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout instead of the tables.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=BUILD / "chaos.json", show_default=True)
@click.pass_context
def main(
    ctx: click.Context, minutes: float, seed: int | None, only: str | None, downstream: bool, as_json: bool, out: Path
) -> None:
    """Inject faults into real workers and count every record. Exit code 1 unless each record is there once."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    seed = random.randrange(10_000) if seed is None else seed
    console = Console(stderr=as_json, highlight=False)
    fit(console)
    began = time.monotonic()
    result: dict[str, Any] = {**report.circumstances(), "seed": seed, "minutes": minutes}
    with report.progress(console) as show, contextlib.ExitStack() as stack:
        beside = [stack.enter_context(_process(name, minutes, seed)) for name in BESIDES if only is None]
        result |= {only or STORM: _part(only or STORM, minutes, seed, show, downstream=downstream)}
        for name, process in zip(BESIDES, beside, strict=False):
            show(f"waiting for {name}")
            result[name] = _result_of(process, minutes)
    parts = [result[name] for name in (STORM, *BESIDES) if name in result]
    result["ok"] = not any(part["problems"] for part in parts)
    result["seconds"] = round(time.monotonic() - began, 1)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
    if as_json:
        click.echo(json.dumps(result))
    else:
        report.tables(console, result)
    ctx.exit(0 if result["ok"] else 1)


def _part(name: str, minutes: float, seed: int, show: report.Show, *, downstream: bool) -> dict[str, Any]:
    """Run one part in this process. The logs of its workers stay in ``build/chaos``."""
    folder = (BUILD / "chaos" / name).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    seconds = minutes * 60
    with LocalAWS(limits=False) as aws:
        if name != STORM:
            return dataclasses.asdict(BESIDES[name](aws, folder, seconds, show))
        giants = min(1.0, minutes / GIANTS_MINUTES)
        weather = Weather(deal(seed, seconds), seconds, seed, downstream=downstream, giants=giants)
        return dataclasses.asdict(storm(aws, f"storm-{seed}", folder, weather, show))


@contextlib.contextmanager
def _process(name: str, minutes: float, seed: int) -> Iterator[subprocess.Popen[bytes]]:
    """One part in a separate process, which ends with the block."""
    BUILD.mkdir(exist_ok=True)
    out = BUILD / f"chaos-{name}.json"
    arguments = ["--only", name, "--minutes", str(minutes), "--seed", str(seed), "--json", "--out", str(out)]
    with (BUILD / f"chaos-{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos", *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate()


def _result_of(process: subprocess.Popen[bytes], minutes: float) -> dict[str, Any]:
    said, _ = process.communicate(timeout=minutes * 60 + AFTERWARDS_S)
    try:
        made: dict[str, Any] = next(part for name, part in json.loads(said).items() if name in BESIDES)
    except ValueError:
        return {"stalled_s": 0.0, "problems": [f"it ended with {process.returncode}; see its log in {BUILD}"]}
    return made


if __name__ == "__main__":
    main()
