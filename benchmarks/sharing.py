"""What three more replicas of the 1 GB reference cost in memory.

    python -m benchmarks.sharing [--json] [RUNS]

Two real model hosts in turns, with one and with four replicas. Each replica has predicted its example. Its share (PSS)
comes from the kernel: a page that several processes map counts in part for each (proc(5), ``smaps_rollup``).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.alone import run
from benchmarks.figures import Figure
from benchmarks.start import TIMEOUT_S, warm
from pipeline.replicas.host import ModelHost
from pipeline.testing.model_settings import host_settings

REPLICAS = 4
BAR_GB = 0.7
KIB, GB = 1024, 1e9


async def memory_gb(replicas: int) -> dict[str, float]:
    """Return ``Pss`` of all replicas together, and ``Private_Dirty``: pages that were written and so cannot be
    shared.
    """
    factory = "examples.reference_1gb:Reference"
    host = ModelHost(host_settings(factory, "bench", replicas=replicas, threads=1, start_timeout_s=TIMEOUT_S))
    try:
        await host.start()
        return _sums(host.pids)
    finally:
        await host.stop()


def _sums(pids: Sequence[int]) -> dict[str, float]:
    texts = "".join(Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    sizes = {name: re.findall(rf"^{name}:\s+(\d+) kB", texts, re.MULTILINE) for name in ("Pss", "Private_Dirty")}
    return {name: sum(map(int, found)) * KIB / GB for name, found in sizes.items()}


def measure(runs: int = 3) -> dict[str, Figure]:
    """Return the memory of the additional replicas, and of one replica alone."""
    warm()
    extra, own = [], []
    for _ in range(runs):
        one, all_of_them = (asyncio.run(memory_gb(replicas)) for replicas in (1, REPLICAS))
        extra.append(all_of_them["Pss"] - one["Pss"])
        own.append(one["Private_Dirty"])
    text = f"PSS of {REPLICAS} replicas of the 1 GB reference less that of one"
    return {
        "sharing_extra_gb": Figure("sharing_extra_gb", extra, "GB", bar=BAR_GB, at_most=True, text=text),
        "replica_own_gb": Figure("replica_own_gb", own, "GB", text="memory that one replica has to itself"),
    }


if __name__ == "__main__":
    run(measure)
