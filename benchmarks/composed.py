"""The parts of a task for benchmarks that measure some of them: made by :mod:`consumer.build` from settings, as the
application makes them, without AWS. What is written for notes and dead letters of the task stays in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from consumer.build import Outside
from consumer.config.load import parse
from consumer.config.settings import Settings
from pipeline.errors import UserError
from pipeline.stores.base import ObjectStore
from pipeline.stores.folder import FolderStore
from pipeline.stores.memory import MemoryStore

ROOT = Path(__file__).resolve().parent.parent
IN_MEMORY = "/in-memory"
"""A folder that is none: what is below it is kept in memory."""

PATIENCE_S = 120.0
"""No call of a model and no start of a replica times out earlier."""


def settings(
    factory: str,
    batch: Mapping[str, Any],
    *,
    threads: int = 1,
    options: Mapping[str, Any] | None = None,
    folder: str = IN_MEMORY,
    table: Mapping[str, Any] | None = None,
) -> Settings:
    """Return the settings of a task with one replica. ``folder``: of its table and its dead letters. ``table``: more
    settings of the Parquet sink. Everything else has its default.
    """
    return parse(
        {
            "stream": {"name": "bench", "application": "bench"},
            "model": {
                "factory": factory,
                "version": "bench",
                "replicas": 1,
                "threads": threads,
                "device": "cpu",
                "memory_mib": 0,
                "timeout_s": PATIENCE_S,
                "start_timeout_s": PATIENCE_S,
                "retries": 1,
                "options": dict(options or {}),
            },
            "batch": dict(batch),
            "sink": [{"type": "parquet", "url": f"{folder}/table", **(table or {})}],
            "dead_letter": {"url": f"{folder}/dead"},
        },
        path=ROOT / "benchmark.toml",
    )


def outside() -> Outside:
    """No AWS; folders, this machine's processes and clocks."""
    return Outside(_no_aws, _store)


async def no_switches(shard_id: str) -> int:
    """No shard was ever given up: a benchmark has no task before it."""
    return 0


def _store(url: str) -> ObjectStore:
    return MemoryStore() if url.startswith(IN_MEMORY) else FolderStore(Path(url))


def _no_aws(service: str) -> Any:
    raise UserError(f"{service}: a benchmark calls no AWS")
