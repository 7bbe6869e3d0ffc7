"""The seeds that are run: different ones for each commit, and all of them in ``make soak``."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ALL = 10_000


def seeds(count: int, chunk: int, chunks: int) -> Iterator[int]:
    """The seeds of part ``chunk`` of ``count`` seeds; of the first ``PENSTOCK_SEEDS`` seeds, if that is set."""
    given = int(os.environ.get("PENSTOCK_SEEDS", "0"))
    first = 0 if given else first_of(commit(), count)
    return (first + number for number in range(chunk, given or count, chunks))


def first_of(commit: str, count: int) -> int:
    """The first seed of a commit: any of ``ALL``."""
    return int(commit[:8] or "0", 16) % (ALL - count + 1)


@cache
def commit() -> str:
    """The commit; empty without a repository."""
    asked = ["git", "rev-parse", "HEAD"]
    done = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip()
