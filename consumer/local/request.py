"""A complete HTTP request, with its AWS service and operation."""

from __future__ import annotations

import re
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

KINESIS_TARGET = "Kinesis_20131202."
DEFAULT_REGION = "us-east-1"
_SCOPE = re.compile(r"Credential=([^/]*)/\d*/([^/]*)/([^/]*)/aws4_request")
_GZIP, _BEGINNING = 31, 64 * 1024
_S3_OBJECT = {
    "PUT": "PutObject",
    "GET": "GetObject",
    "HEAD": "HeadObject",
    "DELETE": "DeleteObject",
    "POST": "PostObject",
}
_S3_BUCKET = {
    "PUT": "CreateBucket",
    "GET": "ListObjects",
    "HEAD": "HeadBucket",
    "DELETE": "DeleteBucket",
    "POST": "DeleteObjects",
}


@dataclass(slots=True)
class Request:
    """A request. Names in ``headers`` are in lower case; ``transport.abort()`` resets the connection."""

    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: dict[str, str]
    header_list: list[tuple[str, str]]
    body: bytes
    http_version: str
    transport: Any
    _signed_for: tuple[str, str, str] | None = None

    @property
    def region(self) -> str:
        """The region that the request is signed for; us-east-1 if it is not signed."""
        return self._scope()[1]

    @property
    def access_key(self) -> str:
        """The access key that the request is signed with; empty if it is not signed. The secret is not checked."""
        return self._scope()[0]

    @property
    def service(self) -> str:
        """The service that the request is signed for: ``kinesis``, ``dynamodb``, ``monitoring``, … Unsigned: ``s3``."""
        if self.headers.get("x-amz-target", "").startswith(KINESIS_TARGET):
            return "kinesis"
        return self._scope()[2]

    def _scope(self) -> tuple[str, str, str]:
        if self._signed_for is None:
            self._signed_for = self._read_scope()
        return self._signed_for

    def _read_scope(self) -> tuple[str, str, str]:
        found = _SCOPE.search(self.headers.get("authorization", "")) or _SCOPE.search(self._presigned())
        return (found[1], found[2], found[3]) if found else ("", DEFAULT_REGION, "s3")

    def _presigned(self) -> str:
        credential = parse_qs(self.query.decode("latin-1")).get("X-Amz-Credential", [""])[0]
        return f"Credential={credential}"

    @property
    def operation(self) -> str:
        """The name of the API operation, such as ``GetRecords`` or ``PutObject``; empty if unknown."""
        target = self.headers.get("x-amz-target")
        if target:
            return target.rpartition(".")[2]
        if self.service == "s3":
            return self._s3_operation()
        if "/operation/" in self.path:
            return self.path.rpartition("/")[2]
        form = self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
        return parse_qs(self._form().decode("utf-8", "replace")).get("Action", [""])[0] if form else ""

    def _form(self) -> bytes:
        """Return the body, or the beginning of what it holds: an SDK compresses the metrics that it puts."""
        if self.headers.get("content-encoding") != "gzip":
            return self.body
        try:
            return zlib.decompressobj(_GZIP).decompress(self.body, _BEGINNING)
        except zlib.error:
            return b""

    def _s3_operation(self) -> str:
        bucket, _, key = self.path.strip("/").partition("/")
        options = parse_qs(self.query.decode("latin-1"), keep_blank_values=True)
        if not bucket:
            return "ListBuckets"
        if not key:
            return "ListObjectsV2" if options.get("list-type") == ["2"] else _S3_BUCKET.get(self.method, "")
        if "uploads" in options:
            return "CreateMultipartUpload"
        if "uploadId" in options:
            return {"PUT": "UploadPart", "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"}.get(
                self.method, "ListParts"
            )
        if self.method == "PUT" and "x-amz-copy-source" in self.headers:
            return "CopyObject"
        return _S3_OBJECT.get(self.method, "")


@dataclass(slots=True)
class Response:
    """A complete HTTP answer. ``content-length`` is added when it is sent."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    async def send(self, send: Send, receive: Receive) -> None:
        """Send the answer through ASGI."""
        headers = [pair for pair in self.headers if pair[0].lower() not in (b"transfer-encoding", b"connection")]
        if not any(name.lower() == b"content-length" for name, _ in headers):
            headers.append((b"content-length", b"%d" % len(self.body)))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


async def read(scope: Any, receive: Receive) -> Request | None:
    """Read a complete request. Returns None if the client disconnects before the end of the body."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    header_list = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
    return Request(
        method=scope["method"],
        path=scope["path"],
        raw_path=scope["raw_path"],
        query=scope["query_string"],
        headers=dict(header_list),
        header_list=header_list,
        body=b"".join(parts),
        http_version=scope["http_version"],
        transport=scope["state"]["transport"],
    )
