"""Object stores: S3, a local folder, memory; and retries of calls to them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.escape import shown
from pipeline.stores.base import ObjectStore
from pipeline.stores.urls import mistake_in


def open_store(url: str, s3: Callable[[], Any]) -> ObjectStore:
    """Open the store that ``url`` names: ``s3://bucket/prefix``, or the path of a local folder.

    ``s3`` makes the S3 client and is called only for an S3 URL. Nothing is read or written until the first call.

    :raises UserError: if it is neither; see :mod:`pipeline.stores.urls`.
    """
    from pipeline.stores.folder import FolderStore
    from pipeline.stores.s3 import S3Store

    if mistake := mistake_in(url):
        raise UserError(f"{shown(url)} {mistake.problem}. {mistake.fix}")
    if url.startswith("s3://"):
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        return S3Store(s3(), bucket, prefix.strip("/"))
    return FolderStore(Path(url))
