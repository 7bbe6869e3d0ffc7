"""Beside stock ``amazon_kclpy`` with MiniLM as it comes from the hub, which pads every call to its longest text.

    python -m benchmarks.hub [--json] [RUNS]

Stock predicts 32 records at a time as they come, as a pipeline of the hub's does; or 16 of like lengths, as a good
engineer would have it who knows what that gains.
"""

from __future__ import annotations

from benchmarks.figures import Figure
from benchmarks.live import SHARDS, Case, beside_stock
from benchmarks.stock import Calls

PADDED = Case("padded", "benchmarks.padded:Measured", 2, 1, 64, 32, 60_000, 3_000, 20.0)
AS_THEY_COME, LIKE = Calls(32), Calls(16, sorts=True)


def measure(runs: int = 5) -> dict[str, Figure]:
    plain, like = beside_stock(PADDED, runs, [AS_THEY_COME, LIKE])
    text = f"records/s / stock amazon_kclpy, {SHARDS} shards, a MiniLM that pads; stock's calls:"
    return {
        "vs_stock_padded": Figure("vs_stock_padded", plain, "x", text=f"{text} {AS_THEY_COME.records} as they come"),
        "vs_stock_sorted": Figure("vs_stock_sorted", like, "x", text=f"{text} {LIKE.records} of like lengths"),
    }


if __name__ == "__main__":
    from benchmarks.alone import run

    run(measure)
