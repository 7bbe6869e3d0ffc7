"""The contract of an object store: a write is all or nothing, and each key is written once.

All calls block. Sinks make them in threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from pipeline.errors import PenstockError, UserError, counted

Metadata = Mapping[str, str]

ON_OBJECTS = "penstock-"
"""Names of object metadata start with this prefix. Everything else in a Parquet footer stays in the footer."""

MOST_BYTES = 2 * 1024 * 1024 * 1024
"""The largest object that is read, in bytes. A file holds at most 1 GiB of rows, or a single row."""


class Retryable(PenstockError):
    """The store did not answer, or asked to try later. A retry may succeed; the first call may have taken effect."""


class TooLarge(ValueError):
    """An object is larger than anything Penstock writes at that key, so it is not read into memory."""

    def __init__(self, size: int) -> None:
        super().__init__(f"it has {counted(size, 'byte')}, more than Penstock ever writes there")


class Denied(UserError):
    """The store refuses the call and will refuse it again until the user fixes the cause. The text says how."""


class ObjectStore(Protocol):
    """A flat set of keys, relative to the store's root.

    Any call may raise :class:`Retryable` or :class:`Denied`.
    """

    def put_new(self, key: str, body: bytes, metadata: Metadata) -> bool:
        """Write the object if its key is free. Return False if the key is taken, perhaps by an earlier try of this
        write.

        Names in ``metadata`` have lower-case letters and hyphens only and start with :data:`ON_OBJECTS`. A Parquet file
        must carry the same values in its footer: a folder has no other place for them.
        """
        ...

    def head(self, key: str) -> Metadata | None:
        """Return the object's metadata, or None if there is no such object.

        A folder knows the metadata of Parquet files only, and returns an empty mapping for other files.
        """
        ...

    def get(self, key: str, most_bytes: int = MOST_BYTES) -> bytes | None:
        """Return the object's bytes, or None if there is no such object. In a folder, a link or a pipe is not an
        object.

        :raises TooLarge: the object has more than ``most_bytes`` bytes.
        """
        ...

    def end(self, key: str, size: int) -> bytes | None:
        """Return the last ``size`` bytes of the object, or all of a shorter one. None as for :meth:`get`."""
        ...

    def list(self, prefix: str, *, limit: int | None = None) -> list[str]:
        """Return the keys that start with ``prefix``, sorted; at most ``limit`` of them. Every completed write is
        visible.

        In a folder the list includes links, pipes (none of them followed) and folders that cannot be read, so that an
        audit can report them. On S3 it leaves out empty objects whose name ends with ``/``: the AWS console creates
        them to show folders.
        """
        ...

    def link(self, key: str) -> str | None:
        """Return the target of the symbolic link with this name, or None if it is not a link. S3 has no links."""
        ...

    def check(self) -> None:
        """Check that the store can be reached, read and written. Leaves no object behind.

        :raises Denied: the user has to fix something first.
        :raises Retryable: the store did not answer.
        """
        ...
