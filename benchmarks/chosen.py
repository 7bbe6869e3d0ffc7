"""Which batch size the batcher chooses for the 1 GB reference, with nothing known at the start, at 16, 64 and 128
tokens.

    python -m benchmarks.chosen [--json] [RUNS]

With a real replica and an endless backlog. ``benchmarks/curve.py`` shows how good the choice is.
"""

from __future__ import annotations

import asyncio
import time

import orjson

from benchmarks.alone import run
from benchmarks.fifo import MAX_RECORDS, Line
from benchmarks.figures import Figure

LEARNING_S = {16: 30.0, 64: 45.0, 128: 60.0}
"""Seconds to learn, by number of tokens."""

MOST_RUNS = 3
BACKLOG = 8 * MAX_RECORDS
"""Records admitted at once; when they are done, the same number again."""


async def choose(length: int, runs: int) -> list[float]:
    """Return the usual batch after :data:`LEARNING_S`, for each run."""
    line = Line("examples.reference_1gb:Reference", learns=True, options={"length": length})
    chosen = []
    try:
        await line.start()
        for _ in range(runs):
            await line.forget()
            began = time.monotonic()
            while (left_s := began + LEARNING_S[length] - time.monotonic()) > 0:
                try:
                    await asyncio.wait_for(line.rate(_texts(length)), left_s)
                except TimeoutError:
                    break
            assert line.batch_sizes is not None
            assert line.batch_sizes.usual
            chosen.append(float(line.batch_sizes.usual))
    finally:
        await line.stop()
    return chosen


def _texts(length: int) -> list[tuple[bytes, str]]:
    return [
        (orjson.dumps({"tokens": [place * 31 + number for place in range(length)]}), "") for number in range(BACKLOG)
    ]


def measure(runs: int = MOST_RUNS) -> dict[str, Figure]:
    """Return the chosen batch size for each number of tokens."""
    figures = {}
    for length, seconds in LEARNING_S.items():
        values = asyncio.run(choose(length, min(runs, MOST_RUNS)))
        text = f"the batcher's choice at {length} tokens after {seconds:.0f} s, nothing known at the start"
        figures[f"chosen_{length}"] = Figure(f"chosen_{length}", values, "records", text=text)
    return figures


if __name__ == "__main__":
    run(measure)
