"""A local folder as an object store, with S3's semantics."""

from __future__ import annotations

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from pipeline.stores.base import MOST_BYTES, ON_OBJECTS, Denied, Metadata, Retryable, TooLarge
from pipeline.stores.folder_owner import check_own

FOLDER_MODE = 0o755
"""Mode of new folders, before the umask: everybody may read a table, only its owner may write to it."""

NO_FOLDER = (errno.ENOTDIR, errno.EEXIST, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)
"""Errors that another try does not change: the path cannot be a folder, or the disk cannot be written to."""

STALE_S = 24 * 60 * 60
"""Seconds after which a partial file belongs to a worker that was killed, and is deleted."""


class FolderStore:
    """A folder in which a file appears whole or not at all, survives a power cut, and never replaces another file.

    A file is first written to a folder next to the root, on the same file system, and then linked to its name. Metadata
    is stored in the Parquet footer. Symbolic links below the root are never followed, for reads or for writes.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._aside = self._root.with_name(f"{self._root.name}.penstock") / "tmp"

    def put_new(self, key: str, body: bytes, metadata: Metadata) -> bool:
        """Write, sync and link the file; its footer must already have ``metadata``. See ``ObjectStore.put_new``."""
        target = self._root / key
        with _disk_errors(target):
            self._refuse_links(target.parent)
            _make(self._aside)
            _make(target.parent)
            partial = self._aside / uuid.uuid4().hex
            try:
                _write_through(partial, body)
                return _link(partial, target)
            finally:
                partial.unlink(missing_ok=True)

    def head(self, key: str) -> Metadata | None:
        """Read the metadata from a Parquet file's footer. See ``ObjectStore.head``."""
        path = self._root / key
        with _disk_errors(path):
            if not self._is_file(path):
                return None
            if path.suffix != ".parquet":
                return {}
            footer = _footer(path)
        names = [name for name in footer if name.startswith(ON_OBJECTS.encode())]
        return {name.decode(): footer[name].decode("utf-8", "replace") for name in names}

    def get(self, key: str, most_bytes: int = MOST_BYTES) -> bytes | None:
        """Read a regular file; links, and files below a link, count as absent. See ``ObjectStore.get``."""
        with self._opened(key) as file:
            size = 0 if file is None else os.fstat(file.fileno()).st_size
            if size > most_bytes:
                raise TooLarge(size)
            return None if file is None else file.read(most_bytes)

    def end(self, key: str, size: int) -> bytes | None:
        """Read the last ``size`` bytes without reading the rest. See ``ObjectStore.end``."""
        with self._opened(key) as file:
            if file is None:
                return None
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read(size)

    def link(self, key: str) -> str | None:
        """Return where a symbolic link points to, as it is written in the link."""
        path = self._root / key
        with _disk_errors(path):
            return os.readlink(path) if path.is_symlink() else None

    def list(self, prefix: str, *, limit: int | None = None) -> list[str]:
        """List files, links and unreadable folders below ``prefix``. See ``ObjectStore.list``."""
        folder = self._root / prefix.rpartition("/")[0]
        with _disk_errors(folder):
            keys = [os.path.relpath(path, self._root) for path in self._walked(folder)]
        return sorted(key for key in keys if key.startswith(prefix))[:limit]

    def _walked(self, folder: Path) -> Iterator[str]:
        """Yield what the folder and its subfolders hold. A link is yielded itself and not followed."""
        waiting = [os.fspath(folder)] if self._linked(folder) is None else []
        while waiting:
            inner = waiting.pop()
            try:
                with os.scandir(inner) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
                        else:
                            yield entry.path
            except FileNotFoundError:
                continue
            except OSError:
                if inner == os.fspath(self._root):
                    raise
                yield inner

    @contextlib.contextmanager
    def _opened(self, key: str) -> Iterator[BinaryIO | None]:
        """Open without blocking and without following a link: a pipe or a link may have replaced the file."""
        path = self._root / key
        with _disk_errors(path):
            if not self._is_file(path):
                yield None
                return
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
                yield file

    def _is_file(self, path: Path) -> bool:
        """Whether the path is a regular file that is neither a link nor below one."""
        return self._linked(path) is None and path.is_file()

    def _linked(self, path: Path) -> Path | None:
        """Return the first link on the way from the root to ``path``, ``path`` included; None if there is none."""
        inside = path.relative_to(self._root).parts
        steps = [self._root.joinpath(*inside[:count]) for count in range(1, len(inside) + 1)]
        return next((step for step in steps if step.is_symlink()), None)

    def _refuse_links(self, folder: Path) -> None:
        if link := self._linked(folder):
            raise Denied(f"{link} is a link; {self._root} must not contain links. Remove it")

    def check(self) -> None:
        """Check owners and modes of the folder, create it, delete stale partial files, write and link a probe.

        :raises Denied: the folder cannot be written, or other users could change what is in it.
        """
        with _disk_errors(self._root):
            for folder in (self._root, self._aside):
                check_own(folder)
            _make(self._root)
            _make(self._aside)
            self._sweep()
            probe = self._aside / uuid.uuid4().hex
            linked = probe.with_suffix(".linked")
            try:
                _write_through(probe, b"")
                os.link(probe, linked)
            finally:
                probe.unlink(missing_ok=True)
                linked.unlink(missing_ok=True)
        if not os.access(self._root, os.W_OK | os.X_OK):
            raise Denied(f"{self._root}: Permission denied. Use a folder that this user may write to")

    def _sweep(self) -> None:
        for partial in self._aside.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - partial.stat().st_mtime > STALE_S:
                    partial.unlink()


def _footer(path: Path) -> Mapping[bytes, bytes]:
    """Return a Parquet file's key-value metadata; empty if the file cannot be parsed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_metadata(path).metadata or {}
    except (pa.ArrowException, ValueError):
        return {}
    except OSError as error:
        if error.errno is not None:  # a disk error; pyarrow raises OSError without errno for a bad footer
            raise
        return {}


def _make(folder: Path) -> None:
    """Create the folder and its parents, and sync each new name in its parent."""
    if folder.is_dir():
        return
    _make(folder.parent)
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    _sync(folder.parent)


def _link(partial: Path, target: Path) -> bool:
    try:
        os.link(partial, target)
    except FileExistsError:
        return False
    _sync(target.parent)
    return True


def _write_through(path: Path, body: bytes) -> None:
    with path.open("xb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Sync a folder: a new name survives a power cut only once its folder is synced."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise Denied(f"{path}: {error.strerror}. Use a folder that this user may write to") from None
    except OSError as error:
        if error.errno in NO_FOLDER:
            raise Denied(f"{path}: {error.strerror}. Use a folder that exists or can be created") from None
        raise Retryable(f"{path}: {error.strerror or error}") from None
