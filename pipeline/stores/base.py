"""What a store of objects promises: one write is all or nothing, and a key is written once.

Calls block; sinks make them in threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from pipeline.errors import PenstockError, UserError

Metadata = Mapping[str, str]

ON_OBJECTS = "penstock-"
"""Names of metadata begin so. The rest of a Parquet footer is not an object's metadata."""

MOST_BYTES = 2 * 1024 * 1024 * 1024
"""No object of ours is larger: a file has 1 GiB of rows at most, or one row."""


class Retryable(PenstockError):
    """The store did not answer, or said later: the same call may go through. Whether it took effect is unknown."""


class TooLarge(ValueError):
    """An object is larger than what Penstock writes there, and is not read into memory."""

    def __init__(self, size: int) -> None:
        super().__init__(f"it has {size:,} bytes, more than what is written there ever has")


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

    def get(self, key: str, most_bytes: int = MOST_BYTES) -> bytes | None:
        """The object; None if there is none, or if what has its name is no object: in a folder, a link or a pipe.

        :raises TooLarge: it has more bytes.
        """
        ...

    def end(self, key: str, size: int) -> bytes | None:
        """The last ``size`` bytes of an object, or all of a shorter one; None as of :meth:`get`."""
        ...

    def list(self, prefix: str, *, limit: int | None = None) -> list[str]:
        """Keys that begin with ``prefix``, sorted; with ``limit``, the first so many. Sees every write answered.

        In a folder also what is no file and not followed (links, pipes), and folders that cannot be read. On S3 empty
        objects whose name ends with ``/`` are left out: the console makes them for folders.
        """
        ...

    def link(self, key: str) -> str | None:
        """Where the link goes that has this name; None if it is none. S3 has none."""
        ...

    def check(self) -> None:
        """Reachable and writable, or :class:`Denied` or :class:`Retryable`. Leaves no object behind."""
        ...
