"""How many cores this process may use: those the scheduler allows, limited by the container's quota."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

CGROUPS = Path("/sys/fs/cgroup")


def resolve(
    replicas: int | Literal["auto"], threads: int | Literal["auto"], cores: int | None = None
) -> tuple[int, int]:
    """Resolve ``[model] replicas`` and ``threads``. ``auto`` is one replica, and the cores divided among the
    replicas.
    """
    count = 1 if replicas == "auto" else replicas
    if threads != "auto":
        return count, threads
    return count, max(1, (available() if cores is None else cores) // count)


def available(cgroups: Path = CGROUPS) -> int:
    """Return the number of cores, at least 1. A quota of 1.5 is one core: a second busy thread would be stopped half
    the time.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroups)
    return max(1, allowed if quota is None else min(allowed, int(quota)))


def _quota(cgroups: Path) -> float | None:
    """The container's CPU quota in cores, from cgroup v2 or v1; None if there is none."""
    try:
        if (v2 := cgroups / "cpu.max").exists():
            most, period = v2.read_text().split()
        else:
            most = (cgroups / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroups / "cpu" / "cpu.cfs_period_us").read_text()
        return int(most) / int(period) if int(most) > 0 else None
    except (OSError, ValueError):  # no cgroups here, or "max"
        return None
