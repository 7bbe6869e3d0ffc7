"""An object store in memory, for tests."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from pipeline.stores.base import MOST_BYTES, Metadata, TooLarge


class MemoryStore:
    """An object store in memory, for our tests and for users' tests.

    ``before`` and ``after`` are called around each operation with its name (``put``, ``head``, ``get``, ``list``,
    ``check``) and key, and may raise. An error from ``before`` simulates a request that never arrived; one from
    ``after`` a lost response.
    """

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.before: Callable[[str, str], None] = lambda operation, key: None
        self.after: Callable[[str, str], None] = lambda operation, key: None
        self._lock = Lock()

    def put_new(self, key: str, body: bytes, metadata: Metadata) -> bool:
        """Store the object if its key is free; thread-safe."""
        self.before("put", key)
        with self._lock:
            new = key not in self.objects
            if new:
                self.objects[key] = (body, dict(metadata))
        self.after("put", key)
        return new

    def head(self, key: str) -> Metadata | None:
        """Return a copy of the object's metadata; None if there is no such object."""
        self.before("head", key)
        found = self.objects.get(key)
        self.after("head", key)
        return None if found is None else dict(found[1])

    def get(self, key: str, most_bytes: int = MOST_BYTES) -> bytes | None:
        """Return the object; None if there is none.

        :raises TooLarge: it has more than ``most_bytes`` bytes.
        """
        self.before("get", key)
        found = self.objects.get(key)
        self.after("get", key)
        if found is not None and len(found[0]) > most_bytes:
            raise TooLarge(len(found[0]))
        return None if found is None else found[0]

    def end(self, key: str, size: int) -> bytes | None:
        """Return the last ``size`` bytes; None if there is no such object."""
        body = self.get(key)
        return None if body is None else body[-size:]

    def link(self, key: str) -> str | None:
        """Return None: there are no links in memory."""
        return None

    def list(self, prefix: str, *, limit: int | None = None) -> list[str]:
        """Return the keys that start with ``prefix``, sorted; at most ``limit``."""
        self.before("list", prefix)
        with self._lock:
            keys = sorted(key for key in self.objects if key.startswith(prefix))
        self.after("list", prefix)
        return keys[:limit]

    def check(self) -> None:
        """Do nothing but call the ``before`` hook with ``check``."""
        self.before("check", "")
