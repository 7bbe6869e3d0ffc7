"""Where objects lie: S3, a folder, or memory. One write is all or nothing, and a key is written once.

Calls block; sinks make them in threads.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.errors import PenstockError, UserError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

Metadata = Mapping[str, str]


class Retryable(PenstockError):
    """The store did not answer, or said later: the same call may go through. Whether it took effect is unknown."""


class Denied(UserError):
    """The store refuses, and will again until somebody mends it."""


class ObjectStore(Protocol):
    """Keys are relative to the store's root. :class:`Retryable` and :class:`Denied` may come of any call."""

    def put_new(self, key: str, body: bytes, metadata: Metadata) -> bool:
        """Write the object if there is none of that key. False: there is one, which may be this very write's."""
        ...

    def head(self, key: str) -> Metadata | None: ...

    def get(self, key: str) -> bytes | None: ...

    def list(self, prefix: str) -> list[str]:
        """Keys that begin with ``prefix``, sorted. Sees every write that was answered before."""
        ...

    def check(self) -> None:
        """Reachable and, as far as can be told without writing, writable; else ``UserError``."""
        ...


def open_store(url: str, s3: Callable[[], Any]) -> ObjectStore:
    """``s3://bucket/prefix`` or a folder. ``s3`` makes the client, if one is needed."""
    if url.startswith("s3://"):
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        return S3Store(s3(), bucket, prefix.strip("/"))
    return FolderStore(Path(url))


class MemoryStore:
    """A store in memory, for tests. ``fault`` is called before and after each write and may raise."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.before: Callable[[str, str], None] = lambda operation, key: None
        self.after: Callable[[str, str], None] = lambda operation, key: None

    def put_new(self, key: str, body: bytes, metadata: Metadata) -> bool:
        self.before("put", key)
        new = key not in self.objects
        if new:
            self.objects[key] = (body, dict(metadata))
        self.after("put", key)
        return new

    def head(self, key: str) -> Metadata | None:
        self.before("head", key)
        found = self.objects.get(key)
        return found and found[1]

    def get(self, key: str) -> bytes | None:
        self.before("get", key)
        found = self.objects.get(key)
        return found and found[0]

    def list(self, prefix: str) -> list[str]:
        self.before("list", prefix)
        return sorted(key for key in self.objects if key.startswith(prefix))

    def check(self) -> None:
        return


class FolderStore:
    """A local folder with S3's semantics: a file appears whole or not at all, and its name is taken once.

    Written beside the folder, on the same file system, and linked into place; metadata is the Parquet footer's.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._aside = self._root.with_name(f"{self._root.name}.partial")

    def put_new(self, key: str, body: bytes, metadata: Metadata) -> bool:
        target = self._root / key
        with _disk_errors(target):
            self._aside.mkdir(parents=True, exist_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = self._aside / uuid.uuid4().hex
            try:
                _write_through(partial, body)
                os.link(partial, target)
            except FileExistsError:
                return False
            finally:
                partial.unlink(missing_ok=True)
            _sync(target.parent)
        return True

    def head(self, key: str) -> Metadata | None:
        import pyarrow.parquet as pq

        path = self._root / key
        with _disk_errors(path):
            if not path.exists():
                return None
            if path.suffix != ".parquet":
                return {}
            footer = pq.read_metadata(path).metadata or {}
        return {name.decode(): value.decode("utf-8", "replace") for name, value in footer.items()}

    def get(self, key: str) -> bytes | None:
        with _disk_errors(self._root / key), contextlib.suppress(FileNotFoundError):
            return (self._root / key).read_bytes()
        return None

    def list(self, prefix: str) -> list[str]:
        folder = (self._root / prefix).parent if not prefix.endswith("/") else self._root / prefix
        with _disk_errors(folder):
            keys = [path.relative_to(self._root).as_posix() for path in folder.rglob("*") if path.is_file()]
        return sorted(key for key in keys if key.startswith(prefix))

    def check(self) -> None:
        with _disk_errors(self._root):
            self._root.mkdir(parents=True, exist_ok=True)
            self._aside.mkdir(parents=True, exist_ok=True)
            probe = self._aside / uuid.uuid4().hex
            _write_through(probe, b"")
            probe.unlink()


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
    except (PermissionError, NotADirectoryError) as error:
        raise Denied(f"{path}: {error.strerror}. Name a folder that may be written.") from None
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Retryable(f"{path}: {error.strerror or error}") from None


DENIED = {
    "AccessDenied": "The task's role needs s3:PutObject, s3:GetObject and s3:ListBucket there.",
    "NoSuchBucket": "Make the bucket, or mend the URL.",
    "InvalidAccessKeyId": "The credentials are not valid.",
    "SignatureDoesNotMatch": "The credentials are not valid.",
    "AllAccessDisabled": "The account may not use S3.",
    "InvalidBucketName": "Mend the URL.",
}
"""Codes of S3 that the same call will meet again, and what to do about each."""


class S3Store:
    """A prefix of a bucket. ``If-None-Match: *`` makes a key's first write its only one (S3 API, PutObject)."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def put_new(self, key: str, body: bytes, metadata: Metadata) -> bool:
        with self._errors() as refused:
            self._client.put_object(
                Bucket=self._bucket, Key=self._prefix + key, Body=body, Metadata=dict(metadata), IfNoneMatch="*"
            )
        return "PreconditionFailed" not in refused

    def head(self, key: str) -> Metadata | None:
        answer: dict[str, Any] = {}
        with self._errors():
            answer = self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)
        return dict(answer["Metadata"]) if answer else None

    def get(self, key: str) -> bytes | None:
        body: bytes | None = None
        with self._errors():
            body = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"].read()
        return body

    def list(self, prefix: str) -> list[str]:
        keys: list[str] = []
        with self._errors():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            keys = [entry["Key"].removeprefix(self._prefix) for page in pages for entry in page.get("Contents", [])]
        return sorted(keys)

    def check(self) -> None:
        with self._errors():
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[set[str]]:
        """Errors as this package's; the code of an answer that is none of them is added to what is yielded."""
        from botocore.exceptions import BotoCoreError, ClientError

        codes: set[str] = set()
        try:
            yield codes
        except ClientError as error:
            codes.add(self._code(error))
        except BotoCoreError as error:
            raise Retryable(f"s3://{self._bucket}: {error}") from None

    def _code(self, error: ClientError) -> str:
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        where = f"s3://{self._bucket}/{self._prefix}"
        if code in {"PreconditionFailed", "412"}:
            return "PreconditionFailed"
        if code in {"NoSuchKey", "404", "NotFound"}:
            return "NoSuchKey"
        if code in DENIED or status in {401, 403}:
            raise Denied(f"{where}: {code}. {DENIED.get(code, DENIED['AccessDenied'])}") from None
        raise Retryable(f"{where}: {code or status}") from None
