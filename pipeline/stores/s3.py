"""A prefix of an S3 bucket as an object store."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.stores.base import MOST_BYTES, Denied, Metadata, Retryable, TooLarge

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

T = TypeVar("T")

NEEDS = "The task's role needs s3:PutObject, s3:GetObject and s3:ListBucket there"
FIXES = {
    "AccessDenied": NEEDS,
    "AllAccessDisabled": "The account may not use S3",
    "ExpiredToken": "The credentials have expired",
    "InvalidAccessKeyId": "The credentials are not valid",
    "InvalidBucketName": "Correct the URL",
    "NoSuchBucket": "Create the bucket, or correct the URL",
    "PermanentRedirect": "The bucket is in another region; check AWS_REGION",
    "SignatureDoesNotMatch": "The credentials are not valid",
}
"""S3 error codes that a retry does not cure, and what the user should do about each."""

PASSING = frozenset({"RequestTimeout", "RequestTimeTooSkewed", "SlowDown", "OperationAborted", "BadDigest"})
"""S3 error codes with a status below 500 after which a retry may succeed (S3 API, error responses)."""

PASSING_STATUS = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS})

PROBE = ".penstock-check"
"""Key for the permission check; no object is ever written there. The check asks S3 to replace a version that does not
exist: S3 checks permissions first, then refuses.
"""


class NoSuch(Exception):
    """There is no object with that key, or no such version of it."""


class Taken(Exception):
    """The key already has an object."""


class NoBytes(Exception):
    """The object has no byte in the requested range."""


class S3Store:
    """Objects below a prefix of a bucket. ``If-None-Match: *`` makes the first write of a key its only one (S3 API,
    PutObject).

    ``client`` is a boto3 S3 client; its retries and time-outs apply to each call.
    """

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def put_new(self, key: str, body: bytes, metadata: Metadata) -> bool:
        """Write the object in one PUT, which takes at most 5 GB. See ``ObjectStore.put_new``."""
        try:
            with self._errors():
                self._client.put_object(
                    Bucket=self._bucket, Key=self._prefix + key, Body=body, Metadata=dict(metadata), IfNoneMatch="*"
                )
        except Taken:
            return False
        return True

    def head(self, key: str) -> Metadata | None:
        """Return the object's user metadata. See ``ObjectStore.head``."""
        return self._found(
            lambda: dict(self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)["Metadata"])
        )

    def get(self, key: str, most_bytes: int = MOST_BYTES) -> bytes | None:
        """Return the object's bytes. See ``ObjectStore.get``."""
        return self._found(lambda: self._read(key, most_bytes))

    def end(self, key: str, size: int) -> bytes | None:
        """Return the last bytes with a range request. See ``ObjectStore.end``.

        S3 refuses a range request on an empty object; the result is then empty.
        """
        try:
            return self._found(lambda: self._read(key, size, Range=f"bytes=-{size}"))
        except NoBytes:
            return b""

    def link(self, key: str) -> str | None:
        """Return None: S3 has no links."""
        return None

    def list(self, prefix: str, *, limit: int | None = None) -> list[str]:
        """List keys below the prefix; S3 lists are strongly consistent. See ``ObjectStore.list``."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix, PaginationConfig={"MaxItems": limit}
        )
        with self._errors():
            entries = [entry for page in pages for entry in page.get("Contents", [])]
        markers = {entry["Key"] for entry in entries if entry["Key"].endswith("/") and not entry["Size"]}
        keys = [entry["Key"].removeprefix(self._prefix) for entry in entries if entry["Key"] not in markers]
        return sorted(keys)

    def check(self) -> None:
        """Check that the role may list and put, without writing an object. See ``ObjectStore.check``."""
        self.list("", limit=1)
        with contextlib.suppress(NoSuch, Taken), self._errors():
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + PROBE, Body=b"", IfMatch='"none"')

    def _read(self, key: str, most_bytes: int, **part: str) -> bytes:
        answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key, **part)
        if answer["ContentLength"] > most_bytes:
            answer["Body"].close()
            raise TooLarge(answer["ContentLength"])
        return bytes(answer["Body"].read())

    def _found(self, call: Callable[[], T]) -> T | None:
        try:
            with self._errors():
                return call()
        except NoSuch:
            return None

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

        try:
            yield
        except ClientError as error:
            raise self._named(error) from None
        except ParamValidationError:
            raise Denied(
                f"{self._where}: no bucket can have this name, or no object this key. Correct the URL"
            ) from None
        except NoCredentialsError as error:
            raise Denied(f"{self._where}: {error}. Check the credentials") from None
        except BotoCoreError as error:
            raise Retryable(f"{self._where}: {error}") from None

    def _named(self, error: ClientError) -> Exception:
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in {"PreconditionFailed", "412"}:
            return Taken()
        if code in {"InvalidRange", "416"}:
            return NoBytes()
        if code in {"NoSuchKey", "404", "NotFound"}:
            return NoSuch()
        if code in PASSING or status in PASSING_STATUS or not 300 <= status < 500:
            return Retryable(f"{self._where}: {code or status}")
        message = error.response.get("Error", {}).get("Message", "")
        fix = FIXES.get(code) or (NEEDS if status in {401, 403} else f"S3 says: {message}")
        return Denied(f"{self._where}: {code or status}. {fix}")

    @property
    def _where(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}"
