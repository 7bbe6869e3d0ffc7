"""Settings of a model host, and an assignment of a replica, for tests and benchmarks: one of each, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.model_process.assignment import Assignment
from pipeline.replicas.host import HostSettings

AS_IT_COMES: dict[str, Any] = {
    "missing": "null",
    "not_finite": "keep",
    "memory_mib": 0,
    "device": "cpu",
    "aws_credentials": False,
}


def host_settings(factory: str, version: str = "1", replicas: int = 1, threads: int = 1, **more: Any) -> HostSettings:
    """A record is tried twice, and nothing times out before two minutes, unless ``more`` says otherwise."""
    patience = {"timeout_s": 120.0, "start_timeout_s": 120.0, "give_up_after_s": 120.0, "retries": 1}
    return HostSettings(
        factory=factory, version=version, replicas=replicas, threads=threads, **{**AS_IT_COMES, **patience, **more}
    )


def assignment(role: str, factory: str, search_path: Sequence[str] = (), **more: Any) -> Assignment:
    """For the first replica, with one thread."""
    given = {"version": "1", "number": 0, "threads": 1, **AS_IT_COMES, **more}
    return Assignment(role=role, factory=factory, search_path=search_path, **given)
