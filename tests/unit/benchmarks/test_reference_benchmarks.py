from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.curve import table
from benchmarks.precision import errors
from benchmarks.sharing import _sums

ROOT = Path(__file__).resolve().parents[3]


def test_without_a_gpu_its_benchmark_fails_with_one_line() -> None:
    environ = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "benchmarks.gpu"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd=ROOT, env=environ)
    assert done.returncode != 0 and done.stdout == ""
    assert done.stderr.startswith("model.device: ") and done.stderr.count("\n") == 1


def test_the_curve_is_a_row_for_each_length_and_the_median_in_each_cell() -> None:
    found = {(16, 1): [1.0, 9.0, 2.0], (16, 4): [10.0], (64, 1): [0.5], (64, 4): [123.4]}
    assert table(found).splitlines() == [
        "| tokens | batch 1 | batch 4 |",
        "|---|---|---|",
        "| 16 | 2 | 10 |",
        "| 64 | 0.5 | 123 |",
    ]


def test_an_error_is_one_less_the_cosine() -> None:
    exact = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    assert errors(np.array([[5.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), exact) == pytest.approx([0, 1, 2])


def test_shares_of_processes_add_up() -> None:
    one, two = _sums([os.getpid()]), _sums([os.getpid()] * 2)
    assert 0 < one["Private_Dirty"] <= one["Pss"]
    assert two["Pss"] == pytest.approx(2 * one["Pss"], rel=0.1)
