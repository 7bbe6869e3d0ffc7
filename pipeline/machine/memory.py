"""How much memory this container has, and how much of it each replica may use."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.errors import ConfigError, counted

MIB = 1024 * 1024

JVM_MIB = 192
"""Memory of a JVM besides its heap, in MiB: classes, compiled code, threads, network buffers."""
HOST_MIB = 512
"""Memory in MiB for the host (about 150), a bridge for each of ten shards (10 each) and the process that measures
costs (up to 250).
"""
LEAST_MIB = 128
"""The least for a replica, in MiB: an interpreter with numpy and pyarrow needs 30, with torch 160."""

UNLIMITED_BYTES = 2**60
"""cgroup v1 shows "no limit" as the largest whole number of pages; anything above this value is no limit."""


def share_mib(task_mib: int | None, *, heap_mib: int, in_flight_mib: int, replicas: int) -> int:
    """Return the memory for each replica of a task that has ``task_mib``, in MiB; 0 (no limit) if that is unknown.

    :raises ConfigError: it is too little; the text has the sum.
    """
    if task_mib is None:
        return 0
    left_mib = task_mib - heap_mib - JVM_MIB - in_flight_mib - HOST_MIB
    share = left_mib // replicas
    if share >= LEAST_MIB:
        return share
    taken = (
        f"kcl.java_heap_mib {heap_mib} + {JVM_MIB} for the JVM + in_flight.total_mib {in_flight_mib} "
        f"+ {HOST_MIB} for the host"
    )
    raise ConfigError(
        "model.memory_mib",
        f"of the task's {task_mib} MiB, {taken} leave {max(0, left_mib)} MiB for {counted(replicas, 'replica')}. Each "
        f"replica needs at least {LEAST_MIB} MiB",
        "Give the task more memory, lower kcl.java_heap_mib, in_flight.total_mib or model.replicas, or set "
        "model.memory_mib = 0 (no limit)",
    )


def task_mib(root: Path = Path("/")) -> int | None:
    """Return the container's memory limit, or the machine's memory if that is less, in MiB; None if unknown.

    A cgroup is also limited by its parents, so the lowest limit counts. Reads cgroup v2 and v1 as in cgroups(7). Inside
    a container the paths in ``/proc/self/cgroup`` may be the host's, and only the top level is visible.
    """
    sizes = [size for size in (_machine_bytes(root), *_limits(root)) if size is not None and size < UNLIMITED_BYTES]
    return min(sizes) // MIB if sizes else None


def _machine_bytes(root: Path) -> int | None:
    found = re.search(r"^MemTotal:\s+(\d+) kB$", _text(root / "proc" / "meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _limits(root: Path) -> list[int | None]:
    mounts = root / "sys" / "fs" / "cgroup"
    limits = []
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, name = mounts, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = mounts / "memory", "memory.limit_in_bytes"
        else:
            continue
        own = top / path.lstrip("/")
        limits += [_bytes(folder / name) for folder in (own, *own.parents) if folder.is_relative_to(top)]
    return limits


def _bytes(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
