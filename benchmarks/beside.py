"""This commit beside another one: benchmarks of both checkouts, in turns, and the ratios of the turns.

    python -m benchmarks.beside CHECKOUT [RUNS] [startup] [host]

``CHECKOUT``: a work tree of another commit, as ``git worktree add`` makes one. Which of the two begins alternates. A
ratio is this commit's figure ÷ the other's. ``startup`` is measured by this commit's code; ``host`` by each checkout's
own. build/commits.json has every run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import startup
from tests.chaos.report import circumstances

THIS = Path(__file__).resolve().parent.parent
Once = Callable[[Path], Mapping[str, float]]
Turn = tuple[Mapping[str, float], Mapping[str, float]]
"""The figures of this commit and of the other one, by their keys."""


@contextmanager
def _host() -> Iterator[Once]:
    def once(checkout: Path) -> Mapping[str, float]:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.host", "--json", "1"],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout)},
            stdout=subprocess.PIPE,
            check=True,
        )
        return {key: values[0] for key, values in json.loads(done.stdout.splitlines()[-1]).items()}

    yield once


PARTS = {"startup": startup.prepared, "host": _host}


def turns(once: Once, other: Path, runs: int) -> Iterator[Turn]:
    """Yield the figures of pairs of runs, after one of each checkout that does not count."""
    for number in range(-1, runs):
        found = {side: once(side) for side in ((THIS, other) if number % 2 else (other, THIS))}
        if number >= 0:
            yield found[THIS], found[other]


def compared(pairs: Sequence[Turn]) -> Iterator[dict[str, Any]]:
    """Yield what each figure is on both sides, and the median and range of the pairs' ratios."""
    for key in pairs[0][0].keys() & pairs[0][1].keys():
        ours, theirs = ([each[key] for each in side] for side in zip(*pairs, strict=True))
        ratios = [one / other for one, other in zip(ours, theirs, strict=True) if other]
        if ratios:
            yield {"figure": key, "ours": ours, "theirs": theirs, "ratio": median(ratios), "ratios": ratios}


def line(found: Mapping[str, Any]) -> str:
    """Return a figure's line of the table, separated by tabs."""
    sides = (f"{median(found[side]):,.4g}" for side in ("ours", "theirs"))
    spread = f"{min(found['ratios']):.2f} to {max(found['ratios']):.2f}"
    return "\t".join([found["figure"], *sides, f"{found['ratio']:.3f}", spread])


def main(checkout: Path, runs: int, parts: Sequence[str]) -> None:
    """Measure, print a line for each figure, and write build/commits.json."""
    commit = ["git", "rev-parse", "--short", "HEAD"]
    names = {
        side: subprocess.run(commit, cwd=side, check=True, capture_output=True, text=True).stdout.strip()
        for side in (THIS, checkout)
    }
    sys.stdout.write("\t".join(["figure", names[THIS], names[checkout], "ratio", "range of the ratio"]) + "\n")
    result: dict[str, Any] = {**circumstances(), "ours": names[THIS], "theirs": names[checkout], "figures": []}
    for part in parts:
        with PARTS[part]() as once:
            pairs = list(turns(once, checkout, runs))
        for found in sorted(compared(pairs), key=lambda found: str(found["figure"])):
            result["figures"].append(found)
            sys.stdout.write(f"{line(found)}\n")
            sys.stdout.flush()
    (THIS / "build").mkdir(exist_ok=True)
    (THIS / "build" / "commits.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    match sys.argv[1:]:
        case [checkout, *more] if all(each.isdecimal() or each in PARTS for each in more):
            numbers = [int(each) for each in more if each.isdecimal()]
            main(Path(checkout).resolve(), numbers[0] if numbers else 5, [p for p in PARTS if p in more] or [*PARTS])
        case _:
            sys.exit(__doc__)
