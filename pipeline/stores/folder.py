"""A local folder as a store, with S3's semantics."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.stores.base import ON_OBJECTS, Denied, Metadata, Retryable
from pipeline.stores.folder_owner import check_own

FOLDER_MODE = 0o755
"""Whatever the umask: everybody may read a table, and nobody else may write to it."""

STALE_S = 24 * 60 * 60
"""A partial file that old is of a worker that was killed."""


class FolderStore:
    """A file appears whole or not at all, survives a power cut once written, and its name is taken once.

    Written beside the folder, on the same file system, and linked into place; metadata is the Parquet footer's.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._aside = self._root.with_name(f"{self._root.name}.penstock") / "tmp"

    def put_new(self, key: str, body: bytes, metadata: Metadata) -> bool:
        target = self._root / key
        with _disk_errors(target):
            _make(self._aside)
            _make(target.parent)
            partial = self._aside / uuid.uuid4().hex
            try:
                _write_through(partial, body)
                return _link(partial, target)
            finally:
                partial.unlink(missing_ok=True)

    def head(self, key: str) -> Metadata | None:
        path = self._root / key
        with _disk_errors(path):
            if not path.is_file():
                return None
            if path.suffix != ".parquet":
                return {}
            footer = _footer(path)
        names = [name for name in footer if name.startswith(ON_OBJECTS.encode())]
        return {name.decode(): footer[name].decode("utf-8", "replace") for name in names}

    def get(self, key: str) -> bytes | None:
        path = self._root / key
        with _disk_errors(path):
            return path.read_bytes() if path.is_file() else None

    def list(self, prefix: str, *, limit: int | None = None) -> list[str]:
        folder = self._root / prefix.rpartition("/")[0]
        with _disk_errors(folder):
            paths = [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]
        keys = [path.relative_to(self._root).as_posix() for path in paths]
        return sorted(key for key in keys if key.startswith(prefix))[:limit]

    def check(self) -> None:
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
            raise Denied(f"{self._root}: Permission denied. Name a folder that may be written")

    def _sweep(self) -> None:
        for partial in self._aside.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - partial.stat().st_mtime > STALE_S:
                    partial.unlink()


def _footer(path: Path) -> Mapping[bytes, bytes]:
    """Of a Parquet file; nothing if it is none that can be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_metadata(path).metadata or {}
    except (pa.ArrowException, ValueError):
        return {}
    except OSError as error:
        if error.errno is not None:  # the disk's; a footer that cannot be parsed has none
            raise
        return {}


def _make(folder: Path) -> None:
    """The folder and those above it, each name synced into the one that holds it."""
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
    """A new name survives a power cut only once its folder is synced."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise Denied(f"{path}: {error.strerror}. Name a folder that may be written") from None
    except OSError as error:
        raise Retryable(f"{path}: {error.strerror or error}") from None
