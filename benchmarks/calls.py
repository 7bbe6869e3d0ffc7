"""What a MiniLM gains from larger calls: one thread's records/s by batch size, with docstrings unsorted or sorted by
length.

    python -m benchmarks.calls [--json] [RUNS]

In one process, without KCL: the example's model, which needs no padding, and the hub's, which pads. Records are sorted
within a thousand, as stock ``amazon_kclpy`` could do within a ``processRecords`` call.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks import bare
from benchmarks.alone import run
from benchmarks.figures import Figure
from benchmarks.load import payloads
from benchmarks.stock import Way
from benchmarks.stock.processor import formed
from pipeline.model import LoadContext, Model

SIZES = (1, 2, 4, 8, 16, 32)
WAYS = (("minilm", False), ("padded", False), ("padded", True))
MESSAGE_RECORDS = 1_000
TURN_S = 2.0


def timed(model: Model, message: Sequence[bytes], way: Way) -> float:
    """Return records per second, measured for about :data:`TURN_S`."""
    began, done = time.perf_counter(), 0
    for places in formed(message, way):
        model.predict([model.decode(message[place]) for place in places])
        done += len(places)
        if time.perf_counter() - began > TURN_S:
            break
    return done / (time.perf_counter() - began)


def measure(runs: int = 5) -> dict[str, Figure]:
    """Return records/s for each model, order and batch size."""
    models = {name: bare.model_of(name) for name, _ in WAYS}
    for model in models.values():
        model.load(LoadContext(threads=1))
        model.predict([model.example()])
    found: dict[tuple[str, bool, int], list[float]] = {(*way, size): [] for way in WAYS for size in SIZES}
    docstrings = [payload for payload, _ in payloads("minilm", MESSAGE_RECORDS * runs)]
    for turn in range(runs):
        message = docstrings[turn * MESSAGE_RECORDS : (turn + 1) * MESSAGE_RECORDS]
        for (name, sorts, size), values in found.items():
            values.append(timed(models[name], message, Way(name, size, sorts)))
    figures = {}
    for (name, sorts, size), values in found.items():
        key = f"calls_{name}{'_sorted' if sorts else ''}_{size}"
        text = f"one thread, {size} docstrings {'of similar lengths' if sorts else 'as they come'} at a time"
        figures[key] = Figure(key, values, "records/s", text=text)
    return figures


if __name__ == "__main__":
    run(measure)
