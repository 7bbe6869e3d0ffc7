"""A replica uses the configured number of threads, in every library, from before the library is loaded.

Two threads, in a model that imports torch when it is loaded: ``test_model_host_memory.py``.
"""

from __future__ import annotations

import os

import pytest

from tests.support.hosts import expect_threads, judged, record


def test_threads_reach_torch_openmp_and_mkl_before_they_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, in a model that imports torch when it predicts."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    asked = record()
    judged([asked], "Threads", threads=1)
    expect_threads(asked, 1)
    assert os.environ["OMP_NUM_THREADS"] == "7"
