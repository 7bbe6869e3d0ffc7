"""HTTP/1.1 for the local AWS: reads requests from a connection and writes their answers, one after the other.

It does what clients of AWS need and is quick at it: KCL and its tests send several small requests a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from email.utils import formatdate
from functools import cache, lru_cache
from http import HTTPStatus
from typing import Any, Protocol

from consumer.local.http1_requests import MOST_HEAD, BadRequestError, Body, parsed
from consumer.local.request import Receive, Request, Response, Send

MOST_AHEAD = 256 * 1024
"""A client that sends more than this, in bytes, before it has its answer is read no further."""
PRIOR_KNOWLEDGE = b"PRI * HTTP/2.0\r\n\r\n"
"""How a connection begins whose client knows that the server speaks HTTP/2."""
NO_BODY = (204, 304)

log = logging.getLogger(__name__)

Upgrade = Callable[[asyncio.Transport, bytes], None]


class App(Protocol):
    """What answers requests."""

    def at_once(self, request: Request) -> Response | None:
        """Return the answer to a request that need not wait; None for others."""
        ...

    async def respond(self, request: Request, receive: Receive, send: Send) -> None:
        """Answer any request, through ASGI's ``receive`` and ``send``."""
        ...


class Http1(asyncio.Protocol):
    """One connection. ``upgrade`` takes it over if it speaks HTTP/2."""

    def __init__(self, app: App, upgrade: Upgrade, connection_of: Callable[[tuple[Any, ...]], Any]) -> None:
        self._app = app
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
        """Answer the requests of which all has come, until one must wait."""
        try:
            while self._task is None and not self._transport.is_closing():
                if self._reading is None:
                    self._reading = self._head()
                if self._reading is None or not self._reading.take(self._came):
                    return
                request, self._reading = self._reading.request, None
                self._begin(request)
        except BadRequestError as error:
            self._transport.write(_status_line(error.status) + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self._transport.close()

    def _begin(self, request: Request) -> None:
        answer = Answer(request, self._transport, self._writable, self._left)
        response = self._app.at_once(request)
        if response is None:
            self._task = asyncio.get_running_loop().create_task(self._answer(request, answer))
            return
        answer.begin(response.status, response.whole_headers())
        answer.add(response.body, more=False)
        if answer.is_last:
            self._transport.close()

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

    async def _answer(self, request: Request, answer: Answer) -> None:
        try:
            await self._app.respond(request, answer.receive, answer.send)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
        finally:
            self._task = None
            if answer.is_last:
                self._transport.close()
        if not self._left.is_set():
            self._transport.resume_reading()
            self._advance()


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
            self.begin(message["status"], message["headers"])
            return
        more = message.get("more_body", False)
        self.add(message.get("body", b""), more=more)
        if more:
            await self._writable.wait()

    def add(self, body: bytes, *, more: bool) -> None:
        """Send a part of the body, behind the headers if it is the first one. ``more``: it is not the last one."""
        if self._silent:
            body = b""
        if self._chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"" if more else b"0\r\n\r\n")
        self._transport.write(self._head + body)
        self._head = b""
        self._over = not more

    def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Keep the headers until the body begins."""
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
