"""A prefix of an S3 bucket as a store."""

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
    "InvalidBucketName": "Mend the URL",
    "NoSuchBucket": "Make the bucket, or mend the URL",
    "PermanentRedirect": "The bucket is in another region; check AWS_REGION",
    "SignatureDoesNotMatch": "The credentials are not valid",
}
"""Codes of S3 that the same call will meet again, and what to do about each."""

PASSING = frozenset({"RequestTimeout", "RequestTimeTooSkewed", "SlowDown", "OperationAborted", "BadDigest"})
"""Codes of S3 below 500 after which the same call may go through (S3 API, error responses)."""

PASSING_STATUS = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS})

PROBE = ".penstock-check"
"""Never written: asked to replace a version that there is not, S3 refuses, but checks permissions first."""


class NoSuch(Exception):
    """There is no object of that key, or none of that version."""


class Taken(Exception):
    """The key has an object."""


class NoBytes(Exception):
    """The object has no byte of that range."""


class S3Store:
    """``If-None-Match: *`` makes a key's first write its only one (S3 API, PutObject)."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def put_new(self, key: str, body: bytes, metadata: Metadata) -> bool:
        """A body of more than 5 GB is more than one PUT takes."""
        try:
            with self._errors():
                self._client.put_object(
                    Bucket=self._bucket, Key=self._prefix + key, Body=body, Metadata=dict(metadata), IfNoneMatch="*"
                )
        except Taken:
            return False
        return True

    def head(self, key: str) -> Metadata | None:
        return self._found(
            lambda: dict(self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)["Metadata"])
        )

    def get(self, key: str, most_bytes: int = MOST_BYTES) -> bytes | None:
        return self._found(lambda: self._read(key, most_bytes))

    def end(self, key: str, size: int) -> bytes | None:
        """S3 refuses a range of an object without bytes, which is then all of it."""
        try:
            return self._found(lambda: self._read(key, size, Range=f"bytes=-{size}"))
        except NoBytes:
            return b""

    def link(self, key: str) -> str | None:
        return None

    def list(self, prefix: str, *, limit: int | None = None) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix, PaginationConfig={"MaxItems": limit}
        )
        with self._errors():
            entries = [entry for page in pages for entry in page.get("Contents", [])]
        markers = {entry["Key"] for entry in entries if entry["Key"].endswith("/") and not entry["Size"]}
        keys = [entry["Key"].removeprefix(self._prefix) for entry in entries if entry["Key"] not in markers]
        return sorted(keys)

    def check(self) -> None:
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
        except (NoCredentialsError, ParamValidationError) as error:
            raise Denied(f"{self._where}: {error}. Check the credentials and the URL") from None
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
