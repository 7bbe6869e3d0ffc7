"""What a replica is told to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.model.arrow_columns import Missing, NotFinite


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a replica receives when it starts. ``role`` is ``predict`` or ``measure``; a measuring replica does not load
    weights.

    ``number``: of the replica, from 0; it decides which GPU it uses. ``device``: ``auto``, ``cpu`` or ``cuda``.
    ``memory_mib``: 0 for no limit. ``search_path``: folders to import the factory from. ``aws_credentials``: whether
    the process receives the task's.
    """

    role: str
    factory: str
    version: str
    number: int
    threads: int
    search_path: Sequence[str]
    missing: Missing
    not_finite: NotFinite
    memory_mib: int
    device: str
    aws_credentials: bool
    passthrough: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    stream: str = ""
    """Name of the stream; record ids start with it."""
