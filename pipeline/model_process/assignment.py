"""The settings that a replica receives when it starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.model.arrow_columns import Missing, NotFiniteRule


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """What a replica needs to know to load the model and to store its results.

    ``device``: ``auto``, ``cpu`` or ``cuda``. ``memory_mib``: of each replica; 0: no limit. ``search_path``: folders to
    import the factory from. ``aws_credentials``: whether the process receives the task's. ``stream``: the name of the
    stream; record ids start with it.
    """

    factory: str
    version: str
    threads: int
    missing: Missing
    not_finite: NotFiniteRule
    memory_mib: int
    device: str
    aws_credentials: bool
    passthrough: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    search_path: Sequence[str] = ()
    stream: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment(LoadSettings):
    """What a replica receives when it starts. ``role`` is ``predict`` or ``measure``; a measuring replica does not load
    weights. ``number``: of the replica, from 0; it decides which GPU it uses.
    """

    role: str
    number: int
