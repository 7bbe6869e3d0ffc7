"""Which device a replica computes on: with GPUs, one GPU for each replica."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pipeline.errors import ModelError

DEVICES = Path("/dev")
NODE = re.compile(r"nvidia\d+")
"""The device file of a GPU. The driver's other files, such as ``nvidiactl``, have no number."""


def count(devices: Path = DEVICES, environ: Mapping[str, str] = os.environ, torch: str | None = None) -> int:
    """Return how many GPUs replicas may use, without loading torch, which would take a second and 150 MB.

    Counts the machine's GPUs that ``CUDA_VISIBLE_DEVICES`` allows. 0 if torch is missing or built for CPUs. ``torch``:
    its version; by default that of the installed one.
    """
    try:
        nodes = sum(NODE.fullmatch(path.name) is not None for path in devices.iterdir())
    except OSError:
        return 0
    if not nodes or (version := _torch_version() if torch is None else torch) == "" or version.endswith("+cpu"):
        return 0
    if (visible := environ.get("CUDA_VISIBLE_DEVICES")) is None:
        return nodes
    named = [name.strip() for name in visible.split(",")]
    valid = next((place for place, name in enumerate(named) if name in {"", "-1"}), len(named))
    return min(nodes, valid)


def wanted(device: str, gpus: int) -> int:
    """Return how many GPUs ``model.device`` (``auto``, ``cpu``, ``cuda``) uses."""
    return 0 if device == "cpu" else gpus


def place(device: str, replica: int, gpus: int) -> str:
    """Return ``cpu``, or ``cuda:N``: replicas are distributed over the GPUs in turn.

    :raises ModelError: ``cuda`` is required and there is no GPU.
    """
    if device == "cuda" and not gpus:
        raise ModelError(
            'model.device: "cuda", but no GPU can be used: there is none, or torch is built for CPUs. '
            'Write "auto" to use a GPU only where there is one'
        )
    return f"cuda:{replica % gpus}" if wanted(device, gpus) else "cpu"


@cache
def _torch_version() -> str:
    """Looked up once: the metadata of an installed package does not change while a process runs."""
    from importlib import metadata  # a twentieth of a second, which a machine without GPUs does not need

    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return ""
