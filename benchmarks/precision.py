"""What smaller number types gain, and what they cost: the 1 GB reference in bfloat16 and int8 compared with float32.

    python -m benchmarks.precision [--json] [RUNS]

In one process, with the same batches in turns: docstrings of the standard library in their own lengths (up to 256
tokens), so that the layers see what a real batch has. A row's error is one minus the cosine between its scores and
those of float32.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from benchmarks.alone import run
from benchmarks.figures import Figure
from examples.demo.corpus import records
from examples.reference_1gb import DTYPES, Options, Reference, token_ids
from pipeline.machine.cores import available
from pipeline.model import LoadContext
from pipeline.replicas.environment import WAIT_POLICY

BATCH = 8
MOST_TOKENS = 256


def loaded(dtype: str = "float32", length: int = 128, device: str = "cpu") -> Reference:
    """Load the model as a replica does. Waiting threads sleep, unless torch was already loaded in this process."""
    os.environ.setdefault("OMP_WAIT_POLICY", WAIT_POLICY)
    model = Reference()
    options = {"dtype": dtype, "length": length}
    model.load(LoadContext(options=options, threads=available(), device=device))
    return model


def timed(model: Reference, items: Sequence[dict[str, Any]]) -> float:
    """Return records per second."""
    began = time.perf_counter()
    model.predict(items)
    return len(items) / (time.perf_counter() - began)


class Ragged:
    """The reference's network on rows of any length."""

    def __init__(self, dtype: str) -> None:
        loaded(dtype)  # writes and checks the weights
        from examples.encoder import Encoder, read_weights

        options = Options({"dtype": dtype})
        weights = read_weights(options.path)
        self._encoder, self._head = Encoder(weights, options.geometry()), weights["head.weight"]

    def __call__(self, rows: Sequence[Sequence[int]]) -> tuple[float, np.ndarray]:
        """Return the seconds, and the scores of each row."""
        import torch

        from examples.encoder import mean_pool

        began = time.perf_counter()
        with torch.inference_mode():
            scores = (mean_pool(self._encoder(rows)) @ self._head.T).float().numpy()
        return time.perf_counter() - began, scores


def rows_of(count: int) -> list[list[int]]:
    """Return the token ids of this many docstrings, one for each word."""
    items = [orjson.loads(data) for data, _ in records(count, seed=4)]
    return [token_ids(item, min(MOST_TOKENS, 1 + len(item["text"].split()))) for item in items]


def errors(scores: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Return one minus the cosine for each row; both arrays have the shape (rows, scores)."""
    product = (scores * exact).sum(1) / np.linalg.norm(scores, axis=1) / np.linalg.norm(exact, axis=1)
    found: np.ndarray = 1 - product
    return found


def measure(runs: int = 5) -> dict[str, Figure]:
    """Return the gain and the error of each type."""
    networks = {dtype: Ragged(dtype) for dtype in DTYPES}
    rows = rows_of(BATCH * (runs + 1))
    gains: dict[str, list[float]] = {dtype: [] for dtype in DTYPES}
    apart: dict[str, list[np.ndarray]] = {dtype: [] for dtype in DTYPES}
    for start in range(0, len(rows), BATCH):
        exact_s, exact = networks["float32"](rows[start : start + BATCH])
        for dtype in DTYPES[1:]:
            seconds, scores = networks[dtype](rows[start : start + BATCH])
            if start:  # the first turn is slow, and each type's in its own way
                gains[dtype].append(exact_s / seconds)
                apart[dtype].append(errors(scores, exact))
    tokens = sum(map(len, rows)) / len(rows)
    figures = {}
    for dtype in DTYPES[1:]:
        found = np.concatenate(apart[dtype])
        text = f"records/s ÷ float32's; batches of {BATCH} docstrings, {tokens:.0f} tokens on average"
        figures[f"gain_{dtype}"] = Figure(f"gain_{dtype}", gains[dtype], "x", text=text)
        text = f"largest cosine error of a row; the mean is {found.mean():.2g}"
        figures[f"error_{dtype}"] = Figure(f"error_{dtype}", [float(found.max())], text=text)
    return figures


if __name__ == "__main__":
    run(measure)
