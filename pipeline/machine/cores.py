"""How many cores this process may use: what the scheduler allows, and what the container's quota pays for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

CGROUPS = Path("/sys/fs/cgroup")


def resolve(
    replicas: int | Literal["auto"], threads: int | Literal["auto"], cores: int | None = None
) -> tuple[int, int]:
    """``[model] replicas`` and ``threads`` as numbers: one replica, and the cores shared out among the replicas."""
    count = 1 if replicas == "auto" else replicas
    if threads != "auto":
        return count, threads
    return count, max(1, (available() if cores is None else cores) // count)


def available(cgroups: Path = CGROUPS) -> int:
    """At least 1. A quota of 1.5 cores is one core: a second busy thread would be stopped half the time."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroups)
    return max(1, allowed if quota is None else min(allowed, int(quota)))


def _quota(cgroups: Path) -> float | None:
    """The container's CPU quota in cores, from cgroup v2 or v1; None: no quota."""
    try:
        if (v2 := cgroups / "cpu.max").exists():
            most, period = v2.read_text().split()
        else:
            most = (cgroups / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroups / "cpu" / "cpu.cfs_period_us").read_text()
        return int(most) / int(period) if int(most) > 0 else None
    except (OSError, ValueError):  # no cgroups here, or "max"
        return None
