"""Where objects lie: S3, a folder, or memory. One write is all or nothing, and a key is written once.

Calls block; sinks make them in threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from pipeline.errors import PenstockError, UserError

Metadata = Mapping[str, str]

ON_OBJECTS = "penstock-"
"""Names of metadata begin so. The rest of a Parquet footer is not an object's metadata."""


class Retryable(PenstockError):
    """The store did not answer, or said later: the same call may go through. Whether it took effect is unknown."""


class Denied(UserError):
    """The store refuses, and will again until somebody mends it."""


class ObjectStore(Protocol):
    """Keys are relative to the store's root. :class:`Retryable` and :class:`Denied` may come of any call."""

    def put_new(self, key: str, body: bytes, metadata: Metadata) -> bool:
        """Write the object if there is none of that key. False: there is one, which may be this very write's.

        Names in ``metadata`` are of lower-case letters and hyphens and begin with :data:`ON_OBJECTS`. A Parquet file
        must have the same in its footer, where a folder keeps them.
        """
        ...

    def head(self, key: str) -> Metadata | None:
        """The object's metadata; None if there is no such object. A folder knows those of Parquet files only."""
        ...

    def get(self, key: str) -> bytes | None: ...

    def list(self, prefix: str, *, limit: int | None = None) -> list[str]:
        """Keys that begin with ``prefix``, sorted; with ``limit``, the first so many. Sees every write answered."""
        ...

    def check(self) -> None:
        """Reachable and writable, or :class:`Denied` or :class:`Retryable`. Leaves no object behind."""
        ...


def open_store(url: str, s3: Callable[[], Any]) -> ObjectStore:
    """``s3://bucket/prefix`` or a folder. ``s3`` makes the client, if one is needed."""
    from pipeline.sinks.store_folder import FolderStore
    from pipeline.sinks.store_s3 import S3Store

    if url.startswith("s3://"):
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        return S3Store(s3(), bucket, prefix.strip("/"))
    return FolderStore(Path(url))


class MemoryStore:
    """A store in memory, for tests of ours and of users.

    ``before`` and ``after`` are called around each call with its name and key, and may raise: a fault before a write
    is a request that never arrived, one after it an answer that was lost.
    """

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.before: Callable[[str, str], None] = lambda operation, key: None
        self.after: Callable[[str, str], None] = lambda operation, key: None
        self._lock = Lock()

    def put_new(self, key: str, body: bytes, metadata: Metadata) -> bool:
        self.before("put", key)
        with self._lock:
            new = key not in self.objects
            if new:
                self.objects[key] = (body, dict(metadata))
        self.after("put", key)
        return new

    def head(self, key: str) -> Metadata | None:
        self.before("head", key)
        found = self.objects.get(key)
        self.after("head", key)
        return None if found is None else dict(found[1])

    def get(self, key: str) -> bytes | None:
        self.before("get", key)
        found = self.objects.get(key)
        self.after("get", key)
        return None if found is None else found[0]

    def list(self, prefix: str, *, limit: int | None = None) -> list[str]:
        self.before("list", prefix)
        with self._lock:
            keys = sorted(key for key in self.objects if key.startswith(prefix))
        self.after("list", prefix)
        return keys[:limit]

    def check(self) -> None:
        self.before("check", "")
