"""Compared with stock ``amazon_kclpy``: MiniLM as in the hub, which pads every call to its longest text.

    python -m benchmarks.hub [--json] [RUNS]

Stock predicts 32 records at a time in their order, as a pipeline of the hub does; or 16 of similar lengths, as an
engineer would write it who knows what that gains.
"""

from __future__ import annotations

from benchmarks.figures import Figure
from benchmarks.live import Case, beside_stock, live, take_turns
from benchmarks.stock import Way

PADDED = Case("padded", "benchmarks.padded:Measured", 2, 1, 64, 32, 60_000, 3_000, 20.0)
AS_THEY_COME, LIKE = Way("padded", 32), Way("padded", 16, sorts=True)


def measure(runs: int = 5) -> dict[str, Figure]:
    """Return the ratio to stock for both ways."""
    with live(PADDED) as made:
        turns = take_turns(made, made.start(), runs, [AS_THEY_COME, LIKE])
    plain, like = (f"a MiniLM that pads, stock's in calls of {way.calls}" for way in (AS_THEY_COME, LIKE))
    figures = (
        beside_stock("vs_stock_padded", turns, AS_THEY_COME, f"{plain} as they come", bar=None),
        beside_stock("vs_stock_sorted", turns, LIKE, f"{like} of similar lengths", bar=None),
    )
    return {figure.key: figure for figure in figures}


if __name__ == "__main__":
    from benchmarks.alone import run

    run(measure)
