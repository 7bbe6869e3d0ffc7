"""Answers that depend on nothing but the question, so that thousands of seeds need them once: what a file's bytes
contain, whether Parquet holds a schema, what a factory is. Files are not compressed: nothing here depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, wraps
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.machine import gpus
from pipeline.model import loader
from pipeline.model_process import starting
from pipeline.table import audit, contents, file_audit, schema

FILES = 1024
"""More files than a seed writes."""

read = lru_cache(maxsize=FILES)(contents.read)
"""A file, as the auditor sees it."""


@lru_cache(maxsize=FILES)
def ids(body: bytes) -> tuple[str, ...]:
    """The record ids of a file, as any reader of Parquet sees them: nothing of ours is in between."""
    column = pq.ParquetFile(pa.BufferReader(body), pre_buffer=False).read(["record_id"], use_threads=False)["record_id"]
    return tuple(column.to_pylist())


def _listed(faults: Callable[..., Any]) -> Callable[..., Any]:
    """The faults of a file, as a list that can be read again."""

    @lru_cache(maxsize=FILES)
    @wraps(faults)
    def found(*given: Any) -> Sequence[tuple[str, str]]:
        return tuple(faults(*given))

    return found


@lru_cache(maxsize=16)
def _found(name: str, search_path: tuple[str, ...], passthrough: tuple[tuple[str, Any], ...]) -> loader.UserModel:
    return loader.find(name, search_path, dict(passthrough))


def _find(name: str, search_path: Sequence[str], passthrough: Mapping[str, Any]) -> loader.UserModel:
    """One model for all replicas: that of these simulations keeps no state."""
    return _found(name, tuple(search_path), tuple(passthrough.items()))


ALL: Sequence[tuple[ModuleType, str, Any]] = (
    (schema, "COMPRESSION", "none"),
    (schema, "_tried", lru_cache(maxsize=16)(schema._tried)),
    (audit, "read", read),
    (audit, "row_faults", _listed(file_audit.row_faults)),
    (starting, "find", _find),
    (gpus, "count", lru_cache(gpus.count)),
)
