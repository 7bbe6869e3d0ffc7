"""Where objects lie: S3, a folder, memory; and a call that is repeated until it is answered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.stores.base import ObjectStore


def open_store(url: str, s3: Callable[[], Any]) -> ObjectStore:
    """``s3://bucket/prefix`` or a folder. ``s3`` makes the client, if one is needed."""
    from pipeline.stores.folder import FolderStore
    from pipeline.stores.s3 import S3Store

    if url.startswith("s3://"):
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        return S3Store(s3(), bucket, prefix.strip("/"))
    return FolderStore(Path(url))
