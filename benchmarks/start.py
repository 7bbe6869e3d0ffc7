"""Time from the start of a replica of the 1 GB reference to its first prediction, with its weights in the page cache.

    python -m benchmarks.start [--json] [RUNS]

From before the process is started until its first answer: the interpreter, torch, the check of the weights, 128 tokens
through 21 layers. A start includes a second prediction, which the replica times; it is subtracted.
"""

from __future__ import annotations

import asyncio
import time

from benchmarks.alone import run
from benchmarks.figures import Figure
from examples.reference_1gb import Options, Reference
from pipeline.machine.cores import available
from pipeline.model import LoadContext
from pipeline.model_process.assignment import Assignment
from pipeline.replicas.process import ReplicaProcess
from pipeline.testing.model_settings import assignment

BAR_S = 3.0
TIMEOUT_S = 120.0
CHUNK_BYTES = 16 * 1024 * 1024
REFERENCE = assignment("predict", "examples.reference_1gb:Reference", threads=available())


def warm(**options: object) -> None:
    """Write and check the weights if needed, and read them into the page cache."""
    Reference().load(LoadContext(options=options, threads=available()))
    with Options(options).path.open("rb", buffering=0) as file:
        while file.read(CHUNK_BYTES):
            pass


async def start_s(assignment: Assignment) -> tuple[float, float]:
    """Return the seconds until the first prediction, and those of the second one."""
    link = ReplicaProcess(assignment)
    began = time.perf_counter()
    try:
        ready = await link.start(TIMEOUT_S)
        seconds = time.perf_counter() - began
    finally:
        await link.close()
    second_s = ready.example_s or 0.0
    return seconds - second_s, second_s


def measure(runs: int = 5) -> dict[str, Figure]:
    """Return both figures."""
    warm()
    starts, seconds = zip(*(asyncio.run(start_s(REFERENCE)) for _ in range(runs)), strict=True)
    text = "first prediction of the 1 GB reference, from the process's start, page cache warm"
    return {
        "replica_start_s": Figure("replica_start_s", list(starts), "s", bar=BAR_S, at_most=True, text=text),
        "reference_second_s": Figure("reference_second_s", list(seconds), "s", text="one prediction of 128 tokens"),
    }


if __name__ == "__main__":
    run(measure)
