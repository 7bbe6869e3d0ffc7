"""A tight loop around ``predict`` in a process of its own: what the model does when nothing else runs.

``python -m benchmarks.bare MODEL RECORDS THREADS`` prints ``ready``. For each line with a number of seconds on its
input it then predicts for that long and prints the records per second.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import cycle, islice
from types import TracebackType
from typing import Any, Self

from benchmarks.load import payloads
from pipeline.model import LoadContext, Model


class Bare:
    """The loop, in as many processes as a task has replicas. They sleep until a rate is requested."""

    def __init__(self, model: str, records: int, *, replicas: int, threads: int) -> None:
        command = [sys.executable, "-m", "benchmarks.bare", model, str(records), str(threads)]
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
        self._loops = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
            for _ in range(replicas)
        ]
        for loop in self._loops:
            _heard(loop)

    def rate(self, seconds: float) -> float:
        """Return the records per second of all processes together, measured for at least ``seconds``."""
        for loop in self._loops:
            assert loop.stdin is not None
            loop.stdin.write(f"{seconds}\n")
            loop.stdin.flush()
        return sum(float(_heard(loop)) for loop in self._loops)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for loop in self._loops:
            loop.kill()
            loop.communicate()


def _heard(loop: subprocess.Popen[str]) -> str:
    assert loop.stdout is not None
    if line := loop.stdout.readline():
        return line.strip()
    raise RuntimeError("the bare loop has ended")


def model_of(name: str) -> Model:
    """Return a model that is not loaded: ``minilm``, ``padded`` (as in the hub), ``library`` (sentence-transformers)
    or ``reference``.
    """
    if name == "minilm":
        from examples.minilm import MiniLM

        return MiniLM()
    if name == "padded":
        from benchmarks.padded import Measured

        return Measured()
    if name == "library":
        from benchmarks.library import Library

        return Library()
    from examples.reference_1gb import Reference

    return Reference()


def main(arguments: Sequence[str]) -> None:
    """Run the loop: MODEL RECORDS THREADS."""
    name, records, threads = arguments[0], int(arguments[1]), int(arguments[2])
    model = model_of(name)
    model.load(LoadContext(threads=threads))
    items: Any = cycle([json.loads(payload) for payload, _ in payloads(name, 2_000)])
    for _ in range(3):
        model.predict(list(islice(items, records)))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < float(line):
            model.predict(list(islice(items, records)))
            done += records
        sys.stdout.write(f"{done / (time.perf_counter() - began)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
