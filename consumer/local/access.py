"""The requests to the local AWS: the access key of each, its operation, and the resource that it names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from consumer.local.request import Request

MOST = 10_000
"""Maximum number of entries; further requests are not noted."""

_TABLE = re.compile(rb'"TableName"\s*:\s*"([^"]+)"')
_INDEX = re.compile(rb'"IndexName"\s*:\s*"([^"]+)"')


class AccessCounts:
    """Distinct requests by access key, service, operation and resource, with their numbers.

    A resource is the name of a stream, a table or a bucket; ``table/index/name`` for a query of an index;
    ``bucket/folder/`` for a key. It is empty if the request does not name one. Requests that a fault answers are not
    noted.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str, str]] = Counter()

    def note(self, request: Request, resource: str | None = None) -> None:
        """Count a request. ``resource`` None: read it from the request."""
        named = resource_of(request) if resource is None else resource
        entry = (request.access_key, request.service, request.operation, named)
        if entry in self._counts or len(self._counts) < MOST:
            self._counts[entry] += 1

    def clear(self) -> None:
        """Forget every request."""
        self._counts.clear()

    def to_list(self) -> list[dict[str, Any]]:
        """One object for each distinct request, in the order in which they first came."""
        names = ("access_key", "service", "operation", "resource")
        return [dict(zip(names, entry, strict=True)) | {"count": count} for entry, count in self._counts.items()]


def stream_of(content: Mapping[str, Any]) -> str:
    """The stream that a request to Kinesis names; empty if it names none: GetRecords, a following page."""
    names = [content.get(member) for member in ("StreamName", "StreamARN", "ConsumerARN", "ResourceARN")]
    named = next((name for name in names if name and isinstance(name, str)), "")
    return named.partition(":stream/")[2].partition("/")[0] if named.startswith("arn:") else named


def resource_of(request: Request) -> str:
    """The table or the bucket and folder that a request to DynamoDB or S3 names."""
    if request.service == "dynamodb":
        table, index = _TABLE.search(request.body), _INDEX.search(request.body)
        if table is None:
            return ""
        named = table[1].decode()
        return f"{named}/index/{index[1].decode()}" if index and request.operation in ("Query", "Scan") else named
    if request.service == "s3":
        bucket, _, key = request.path.strip("/").partition("/")
        return f"{bucket}/{''.join(key.rpartition('/')[:2])}" if key else bucket
    return ""
