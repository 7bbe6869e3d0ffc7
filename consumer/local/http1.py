"""HTTP/1.1 for the local AWS: reads requests from a connection and writes their answers, one after the other.

It does what clients of AWS need and is quick at it: KCL and its tests send several small requests a second.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import cache, lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from consumer.local.request import Receive, Request, Send

MOST_HEAD = 64 * 1024
"""Maximum size of a request's first line and headers, in bytes."""
MOST_AHEAD = 256 * 1024
"""A client that sends more than this, in bytes, before it has its answer is read no further."""
PRIOR_KNOWLEDGE = b"PRI * HTTP/2.0\r\n\r\n"
"""How a connection begins whose client knows that the server speaks HTTP/2."""
_CHUNK_LINE = 1024
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FIRST_LINE = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/(1\.[01])")
_SIZE = re.compile(rb"[0-9a-fA-F]{1,15}")
NO_BODY = (204, 304)

log = logging.getLogger(__name__)

Perform = Callable[[Request, Receive, Send], Awaitable[None]]
Upgrade = Callable[[asyncio.Transport, bytes], None]


class BadRequestError(Exception):
    """The connection does not speak HTTP/1.1. It gets an answer with the status and is closed."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Http1(asyncio.Protocol):
    """One connection. ``perform`` answers a request; ``upgrade`` takes over a connection that speaks HTTP/2."""

    def __init__(self, perform: Perform, upgrade: Upgrade, connection_of: Callable[[tuple[Any, ...]], Any]) -> None:
        self._perform = perform
        self._upgrade = upgrade
        self._connection_of = connection_of
        self._transport: asyncio.Transport
        self._connection: Any = None
        self._came = bytearray()
        self._reading: Body | None = None
        self._task: asyncio.Task[None] | None = None
        self._fresh = True
        self._left = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # -- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to read."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connection = self._connection_of(transport.get_extra_info("peername"))

    def data_received(self, data: bytes) -> None:
        """Answer the next request once it is complete."""
        self._came += data
        if self._fresh and not self._is_http1():
            return
        if self._task is None:
            self._advance()
        elif len(self._came) > MOST_AHEAD:
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request under way that its client has left."""
        self._left.set()
        self._writable.set()

    def pause_writing(self) -> None:
        """Hold back a long answer until the client has read more of it."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Continue a long answer."""
        self._writable.set()

    # -- requests

    def _is_http1(self) -> bool:
        """Whether the connection speaks HTTP/1. False: not known yet, or it is handed over as HTTP/2."""
        if self._came.startswith(PRIOR_KNOWLEDGE):
            self._upgrade(self._transport, bytes(self._came))
            return False
        self._fresh = PRIOR_KNOWLEDGE.startswith(self._came)
        return not self._fresh

    def _advance(self) -> None:
        """Begin the next request if all of it has come."""
        try:
            if self._reading is None:
                self._reading = self._head()
            if self._reading is None or not self._reading.take(self._came):
                return
        except BadRequestError as error:
            self._transport.write(_status_line(error.status) + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self._transport.close()
            return
        body, self._reading = self._reading, None
        self._task = asyncio.get_running_loop().create_task(self._answer(body))

    def _head(self) -> Body | None:
        """Take the first line and the headers, once they have come."""
        while self._came.startswith(b"\r\n"):
            del self._came[:2]  # RFC 9112, 2.2: some clients end a body with it
        end = self._came.find(b"\r\n\r\n")
        if end > MOST_HEAD or (end < 0 and len(self._came) > MOST_HEAD):
            raise BadRequestError(431)
        if end < 0:
            return None
        body = Body(parsed(self._came[:end].decode("latin-1"), self._connection))
        del self._came[: end + 4]
        if not body.is_there(self._came) and body.request.headers.get("expect", "").lower() == "100-continue":
            self._transport.write(_status_line(100) + b"\r\n\r\n")
        return body

    async def _answer(self, body: Body) -> None:
        request = body.request
        answer = Answer(request, self._transport, self._writable, self._left)
        try:
            await self._perform(request, answer.receive, answer.send)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
        finally:
            self._task = None
            if answer.is_last:
                self._transport.close()
        if not (answer.is_last or self._left.is_set()):
            self._transport.resume_reading()
            self._advance()


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


class Answer:
    """The ASGI side of one request: where its answer goes, and what it hears of its client."""

    def __init__(
        self, request: Request, transport: asyncio.Transport, writable: asyncio.Event, left: asyncio.Event
    ) -> None:
        self._request = request
        self._transport = transport
        self._writable = writable
        self._left = left
        self._head = b""
        self._chunked = self._silent = self._over = False
        self._closes = request.http_version == "1.0" or request.headers.get("connection", "").lower() == "close"

    @property
    def is_last(self) -> bool:
        """Whether the connection ends after this answer: the client asked for it, or the answer is not complete."""
        return self._closes or not self._over

    async def receive(self) -> dict[str, Any]:
        """Wait until the client leaves: the body of the request is already there."""
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        """Send a part of the answer, as ASGI defines it."""
        if self._left.is_set():
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], message["headers"])
            return
        body = b"" if self._silent else message.get("body", b"")
        more = message.get("more_body", False)
        if self._chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        self._transport.write(self._head + body)
        self._head = b""
        self._over = not more
        if more:
            await self._writable.wait()

    def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        lines = [_status_line(status), *(b"%b: %b" % header for header in headers), _date(int(time.time()))]
        self._silent = self._request.method == "HEAD" or status in NO_BODY
        if not (self._silent or any(name.lower() == b"content-length" for name, _ in headers)):
            self._chunked = not self._closes
            lines += [b"transfer-encoding: chunked"] * self._chunked  # else the end of the connection ends it
        if self._closes:
            lines.append(b"connection: close")
        self._head = b"\r\n".join(lines) + b"\r\n\r\n"


@cache
def _status_line(status: int) -> bytes:
    """With a phrase, which HTTP does not demand: botocore does not understand a line without one."""
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Status"
    return f"HTTP/1.1 {status} {phrase}".encode()


@lru_cache(1)
def _date(now_s: int) -> bytes:
    return b"date: " + formatdate(now_s, usegmt=True).encode()
