"""Cores, as containers assign them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.machine.cores import available, resolve

ALLOWED = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.mark.parametrize(
    ("replicas", "threads", "expected"),
    [("auto", "auto", (1, 8)), (2, "auto", (2, 4)), (3, "auto", (3, 2)), (9, "auto", (9, 1)), ("auto", 5, (1, 5))],
)
def test_cores_are_shared_out_among_replicas(replicas: int, threads: int, expected: tuple[int, int]) -> None:
    assert resolve(replicas, threads, cores=8) == expected


@pytest.mark.parametrize(("quota", "cores"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", ALLOWED)])
def test_the_quota_of_cgroup_2_counts(quota: str, cores: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert available(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("150000", 1), ("-1", ALLOWED)])
def test_the_quota_of_cgroup_1_counts(quota: str, cores: int, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert available(tmp_path) == cores


def test_without_cgroups_the_scheduler_decides(tmp_path: Path) -> None:
    assert available(tmp_path) == ALLOWED
