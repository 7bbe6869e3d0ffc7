"""A replica uses the configured number of threads, in every library, from before the library is loaded."""

from __future__ import annotations

import os

import pytest

from pipeline.machine.cores import available
from pipeline.replicas.host import ModelHost
from tests.support.hosts import hosted, record, value


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_reach_torch_openmp_and_mkl_before_they_load(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    asked = record()

    async def body(host: ModelHost) -> None:
        await host.settle([asked])

    hosted(body, "Threads", threads=threads)
    assert value(asked, "before") == f"{threads} {threads}"
    within = min(threads, available())  # MKL takes no more threads than there are cores, and torch asks it
    assert value(asked, "torch") == within
    assert value(asked, "openmp") in (threads, within)
    assert value(asked, "mkl") in (within, None)  # not every build of torch has it
    assert os.environ["OMP_NUM_THREADS"] == "7"
