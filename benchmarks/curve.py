"""How the 1 GB reference's rate depends on the batch: a table of records/s at 16, 64 and 128 tokens.

    python -m benchmarks.curve [--json] [RUNS]

The bare model in a loop. Each run measures all sizes once, so other load on the machine affects all of them.
"""

from __future__ import annotations

import sys
from statistics import median

from benchmarks.alone import run
from benchmarks.figures import Figure
from benchmarks.precision import loaded, timed

LENGTHS = (16, 64, 128)
SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 23, 32)
"""The batcher's sizes that matter on CPUs."""


def rates(
    runs: int, lengths: tuple[int, ...], sizes: tuple[int, ...], dtype: str = "float32", device: str = "cpu"
) -> dict[tuple[int, int], list[float]]:
    """Return records per second by number of tokens and batch size, for each run."""
    found: dict[tuple[int, int], list[float]] = {(length, size): [] for length in lengths for size in sizes}
    models = {length: loaded(dtype, length, device) for length in lengths}
    for turn in range(-1, runs):
        for (length, size), values in found.items():
            items = [{"tokens": [place * 31 + number for place in range(length)]} for number in range(size)]
            if turn >= 0:
                values.append(timed(models[length], items))
            elif device != "cpu" or size == sizes[0]:  # a GPU's first call of each size is slow
                timed(models[length], items)
    return found


def table(found: dict[tuple[int, int], list[float]]) -> str:
    """Return a Markdown table: a row for each number of tokens, a column for each batch size."""
    lengths, sizes = (sorted({pair[place] for pair in found}) for place in (0, 1))
    lines = ["| tokens | " + " | ".join(f"batch {size}" for size in sizes) + " |", "|---" * (len(sizes) + 1) + "|"]
    for length in lengths:
        cells = [f"{median(found[length, size]):.3g}" for size in sizes]
        lines.append(f"| {length} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def measure(runs: int = 3) -> dict[str, Figure]:
    """Print the table on stderr and return its figures."""
    found = rates(runs, LENGTHS, SIZES)
    sys.stderr.write(table(found))
    return {
        f"curve_{length}_{size}": Figure(
            f"curve_{length}_{size}", values, "records/s", text=f"{length} tokens, batches of {size}"
        )
        for (length, size), values in found.items()
    }


if __name__ == "__main__":
    run(measure)
