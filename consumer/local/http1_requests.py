"""The requests of HTTP/1.1: first line, headers, and a body of known length or in chunks."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from consumer.local.request import Request

MOST_HEAD = 64 * 1024
"""Maximum size of a request's first line and headers, in bytes."""
_CHUNK_LINE = 1024
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FIRST_LINE = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/(1\.[01])")
_SIZE = re.compile(rb"[0-9a-fA-F]{1,15}")


class BadRequestError(Exception):
    """The connection does not speak HTTP/1.1. It gets an answer with the status and is closed."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Body:
    """A request whose body is being read."""

    def __init__(self, request: Request) -> None:
        """:raises BadRequestError: if the headers do not say how long the body is."""
        self.request = request
        self._parts: list[bytes] = []
        self._missing = 0
        length, coding = request.headers.get("content-length"), request.headers.get("transfer-encoding")
        self._chunked = coding is not None
        if coding is not None and (coding.lower() != "chunked" or length is not None):
            raise BadRequestError(501 if length is None else 400)
        if length is not None:
            if not (length.isascii() and length.isdecimal() and len(length) < 16):
                raise BadRequestError(400)
            self._missing = int(length)

    def is_there(self, came: bytearray) -> bool:
        """Whether a body of known length has come as a whole."""
        return not self._chunked and self._missing <= len(came)

    def take(self, came: bytearray) -> bool:
        """Move what belongs to the body out of ``came``. Returns whether the body is complete."""
        if some := bytes(came[: self._missing]):
            self._parts.append(some)
            self._missing -= len(some)
            del came[: len(some)]
        if self._missing or (self._chunked and not self._chunks(came)):
            return False
        self.request.body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        return True

    def _chunks(self, came: bytearray) -> bool:
        """Take every chunk that has come as a whole. Returns whether the last one and the trailers were among them."""
        while (end := came.find(b"\r\n")) >= 0:
            size = bytes(came[:end]).partition(b";")[0].strip()
            if not _SIZE.fullmatch(size):
                raise BadRequestError(400)
            start, stop = end + 2, end + 2 + int(size, 16)
            if stop == start:
                return _without_trailers(came, end)
            if len(came) < stop + 2:
                return False
            if came[stop : stop + 2] != b"\r\n":
                raise BadRequestError(400)
            self._parts.append(bytes(came[start:stop]))
            del came[: stop + 2]
        if len(came) > _CHUNK_LINE:
            raise BadRequestError(400)
        return False


def _without_trailers(came: bytearray, end: int) -> bool:
    """Drop the last chunk and its trailers, in which SDKs send checksums. False: they have not come as a whole."""
    last = came.find(b"\r\n\r\n", end)
    if last < 0:
        if len(came) > MOST_HEAD:
            raise BadRequestError(431)
        return False
    del came[: last + 4]
    return True


def parsed(head: str, connection: Any) -> Request:
    """Return the request that a first line and headers describe, without its body.

    :raises BadRequestError: if they are not HTTP/1.1.
    """
    first, *lines = head.split("\r\n")
    found = _FIRST_LINE.fullmatch(first)
    if found is None:
        raise BadRequestError(400)
    method, target, version = found.groups()
    headers: dict[str, str] = {}
    header_list = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(name):
            raise BadRequestError(400)
        name, value = name.lower(), value.strip(" \t")
        if name == "content-length" and headers.get(name, value) != value:
            raise BadRequestError(400)
        headers[name] = value
        header_list.append((name, value))
    path, _, query = target.partition("?")
    return Request(method, unquote(path), path.encode(), query.encode(), headers, header_list, b"", version, connection)
