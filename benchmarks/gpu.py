"""The 1 GB reference on a GPU, in bfloat16: batch curve, records/s, and the share of the bare model's rate that a host
keeps.

    python -m benchmarks.gpu [--json] [RUNS]

``make bench-gpu``. Without a GPU it prints one line and exits with status 2.
"""

from __future__ import annotations

import asyncio
import sys
import time
from statistics import median

import orjson

from benchmarks.alone import run
from benchmarks.curve import rates, table
from benchmarks.figures import Figure
from pipeline.errors import ModelError
from pipeline.machine import gpus
from pipeline.record import Record
from pipeline.replicas.host import ModelHost
from pipeline.testing.model_settings import host_settings

SIZES = (1, 8, 32, 64, 128, 256, 512)
LENGTH = 128
DTYPE = "bfloat16"
BATCHES, AT_ONCE = 16, 2


async def _host_rates(runs: int, size: int, device: str) -> list[float]:
    """Records per second through a model host with one replica and as many batches in progress as it has slots."""
    options = {"dtype": DTYPE, "length": LENGTH}
    host = ModelHost(host_settings("examples.reference_1gb:Reference", "bench", 1, 1, options=options, device=device))
    try:
        await host.start()
        return [await _host_rate(host, size) for _ in range(runs + 1)][1:]
    finally:
        await host.stop()


async def _host_rate(host: ModelHost, size: int) -> float:
    payload = orjson.dumps({"tokens": list(range(LENGTH))})
    batches = [[Record("bench", payload, "", str(n), 0, 0) for n in range(size)] for _ in range(BATCHES)]
    waiting = iter(batches)

    async def judge() -> None:
        for batch in waiting:
            await host.settle(batch)

    began = time.perf_counter()
    await asyncio.gather(*(judge() for _ in range(AT_ONCE)))
    return BATCHES * size / (time.perf_counter() - began)


def measure(runs: int = 5, device: str = "cuda") -> dict[str, Figure]:
    """Return the figures.

    :raises ModelError: there is no GPU.
    """
    name = gpus.place(device, 0, gpus.count())
    found = rates(runs, (LENGTH,), SIZES, DTYPE, name)
    sys.stderr.write(table(found))
    size = max(SIZES, key=lambda each: median(found[LENGTH, each]))
    bare = median(found[LENGTH, size])
    through = asyncio.run(_host_rates(runs, size, device))
    text = f"{LENGTH} tokens, {DTYPE}, batches of {size}"
    figures = (
        Figure("gpu_records_per_s", through, "records/s", text=f"through a model host, {text}"),
        Figure("gpu_efficiency", [each / bare for each in through], "x", text=f"÷ the bare model's {bare:,.0f}/s"),
    )
    return {figure.key: figure for figure in figures}


if __name__ == "__main__":
    try:
        run(measure)
    except ModelError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
