"""Requests and responses as the parts of the local AWS pass them on, and which operation a request is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs

MAX_BODY_BYTES = 64 << 20

Headers = list[tuple[bytes, bytes]]

_SCOPE = re.compile(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/aws4_request")


class TooLarge(Exception):
    """A request's body is larger than ``MAX_BODY_BYTES``."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request with its whole body; ``raw_path`` is as sent, without the query."""

    method: str
    raw_path: bytes
    path: str
    query: bytes
    headers: dict[str, str]
    body: bytes
    http_version: str

    @property
    def target(self) -> str:
        return self.headers.get("x-amz-target", "")

    def signed_for(self) -> tuple[str, str]:
        """The region and the service in the signature, each empty where nothing is signed."""
        found = _SCOPE.search(self.headers.get("authorization", ""))
        return (found[1], found[2]) if found else ("", "")

    def service(self) -> str:
        """As in the signature: ``kinesis``, ``s3``, ``dynamodb``, ``monitoring`` …"""
        if self.target.startswith("Kinesis_"):
            return "kinesis"
        return self.signed_for()[1] or "s3"

    def operation(self) -> str:
        """Such as ``PutRecords``; empty where it cannot be told."""
        if self.target:
            return self.target.rpartition(".")[2]
        if self.service() == "s3":
            return s3_operation(self.method, self.path, self.query.decode("latin-1"))
        if self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return parse_qs(self.body.decode("latin-1")).get("Action", [""])[0]
        # Smithy's RPC: /service/X/operation/Y
        return self.path.rpartition("/operation/")[2] if "/operation/" in self.path else ""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Headers
    body: bytes


_S3_OBJECT = {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}
_S3_BUCKET = {"GET": "ListObjects", "HEAD": "HeadBucket", "PUT": "CreateBucket", "DELETE": "DeleteBucket"}


def s3_operation(method: str, path: str, query: str) -> str:
    """The operation of a path-style S3 request; empty for those that Penstock never makes."""
    keys = parse_qs(query, keep_blank_values=True).keys()
    bucket, _, key = path.lstrip("/").partition("/")
    if not bucket:
        return "ListBuckets" if method == "GET" else ""
    if key:
        if "uploads" in keys or "uploadId" in keys:
            return _multipart(method, keys)
        return _S3_OBJECT.get(method, "")
    if method == "GET" and "list-type" in keys:
        return "ListObjectsV2"
    if method == "POST" and "delete" in keys:
        return "DeleteObjects"
    return _S3_BUCKET.get(method, "")


def _multipart(method: str, keys: object) -> str:
    if method == "POST":
        return "CreateMultipartUpload" if "uploads" in keys else "CompleteMultipartUpload"  # type: ignore[operator]
    return {"PUT": "UploadPart", "DELETE": "AbortMultipartUpload", "GET": "ListParts"}.get(method, "")
