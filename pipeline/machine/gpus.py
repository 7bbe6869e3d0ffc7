"""Which device a replica computes on: one GPU each, where there are GPUs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

from pipeline.errors import ModelError

DEVICES = Path("/dev")
NODE = re.compile(r"nvidia\d+")
"""One for each GPU; the driver's others, ``nvidiactl`` say, have no number."""


def count(devices: Path = DEVICES, environ: Mapping[str, str] = os.environ, torch: str | None = None) -> int:
    """How many GPUs a replica may use, found without loading torch, which would take a second and 150 MB.

    Of those that the machine shows, the ones that ``CUDA_VISIBLE_DEVICES`` leaves; none if torch (its version, default:
    the installed one's) is not there or was built for CPUs.
    """
    if (version := _torch_version() if torch is None else torch) == "" or version.endswith("+cpu"):
        return 0
    try:
        nodes = sum(NODE.fullmatch(path.name) is not None for path in devices.iterdir())
    except OSError:
        return 0
    if (visible := environ.get("CUDA_VISIBLE_DEVICES")) is None:
        return nodes
    named = [name.strip() for name in visible.split(",")]
    valid = next((place for place, name in enumerate(named) if name in {"", "-1"}), len(named))
    return min(nodes, valid)


def wanted(device: str, gpus: int) -> int:
    """How many GPUs ``model.device`` (``auto``, ``cpu``, ``cuda``) makes use of."""
    return 0 if device == "cpu" else gpus


def place(device: str, replica: int, gpus: int) -> str:
    """``cpu``, or ``cuda:N``: replicas go round the GPUs. ``ModelError`` if ``cuda`` is asked for and there is none."""
    if device == "cuda" and not gpus:
        raise ModelError(
            'model.device: "cuda", but no GPU can be used: this machine shows none, or torch is built for CPUs. '
            'Write "auto" to use one where there is one'
        )
    return f"cuda:{replica % gpus}" if wanted(device, gpus) else "cpu"


@cache
def _torch_version() -> str:
    """Looked up once: the metadata of an installed package does not change while a process runs."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return ""
