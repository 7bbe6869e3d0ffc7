"""An HTTP server for a few answers, with limits so that no client can overload the task.

It runs in its own thread and event loop. It holds ``MOST`` connections; one more, and the oldest is closed. A
connection has one request of at most ``REQUEST_BYTES``, with a time-out. An answer is computed at most once per
``FRESH_S``, for any number of requests. It speaks only HTTP/1.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from pipeline import background

log = logging.getLogger("health")

Answer = tuple[int, str, bytes]
"""Status, content type, body."""

MOST = 32
"""Maximum number of concurrent connections, and so of file descriptors."""

REQUEST_S, ANSWER_S, LINGER_S = 5.0, 5.0, 0.5
"""Seconds to send the request, to receive the answer, and to close the connection."""

REQUEST_BYTES = 8 * 1024
AT_ONCE, A_SECOND = 512, 100
"""Maximum number of new connections, in a burst and per second. Others wait in the kernel, or are refused there. Each
costs about 0.3 ms of CPU time."""

SHORT_S = 1.0
"""Seconds before the next attempt if there is no file descriptor for a connection."""

FRESH_S = 0.2
"""Maximum age of an answer in seconds."""


class RequestRefused(Exception):
    """The request is invalid. ``status`` is the HTTP status of the answer."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class Port:
    """Serves ``listener`` with the answers of ``answer(method, path)`` until :meth:`stop`. Belongs to one event
    loop."""

    def __init__(self, listener: socket.socket, answer: Callable[[str, str], Awaitable[Answer]]) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._answer = answer
        self._connections: dict[asyncio.Task[None], None] = {}
        self._stop = asyncio.Event()
        self._pace = ConnectionPace(AT_ONCE, A_SECOND)
        self._refused = 0
        self._failed = 0

    async def serve(self) -> None:
        """Serve until :meth:`stop`, which closes the listener and every connection."""
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: self._failure(context["message"]))
        try:
            await background.first_of(self._accept, self._stop.wait)
        finally:
            self._listener.close()
            for connection in list(self._connections):
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    def stop(self) -> None:
        """Call it in the port's own event loop."""
        self._stop.set()

    async def _accept(self) -> None:
        while True:
            try:
                connection, _ = await asyncio.get_running_loop().sock_accept(self._listener)
            except OSError as error:
                await self._short(error)
                continue
            self._make_room()
            await self._begin(connection)
            await asyncio.sleep(self._pace.wait_s(time.monotonic()))

    async def _short(self, error: OSError) -> None:
        """A connection could not be accepted, or was gone before. Logs the 1st, 2nd, 4th, 8th … time."""
        self._refused += 1
        if self._refused.bit_count() == 1:
            log.warning("a connection cannot be accepted (%d times): %s", self._refused, error.strerror or error)
        await asyncio.sleep(SHORT_S)

    def _make_room(self) -> None:
        if len(self._connections) >= MOST:
            oldest = next(iter(self._connections))
            del self._connections[oldest]
            oldest.cancel()

    async def _begin(self, connection: socket.socket) -> None:
        async def converse() -> None:
            with connection:
                connection.setblocking(False)
                await self._converse(connection)

        task = background.start(converse, name="a connection of the health page", on_failure=self._failure)
        self._connections[task] = None
        task.add_done_callback(lambda task: self._connections.pop(task, None))
        await asyncio.sleep(0)  # from here on, the connection closes its socket

    def _failure(self, error: object) -> None:
        """An answer failed. Logs the 1st, 2nd, 4th, 8th … time."""
        self._failed += 1
        if self._failed.bit_count() == 1:
            log.warning("an answer failed (%d times): %s", self._failed, error)

    # -- one connection

    async def _converse(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            response = await self._response(connection)
            async with asyncio.timeout(ANSWER_S):
                await asyncio.get_running_loop().sock_sendall(connection, response)
            await _close(connection)

    async def _response(self, connection: socket.socket) -> bytes:
        method = "GET"
        try:
            async with asyncio.timeout(REQUEST_S):
                method, path = parse(await _head(connection))
            status, content_type, body = await self._answer(method, path)
        except RequestRefused as refused:
            status, content_type, body = refused.status, "text/plain", f"{refused}\n".encode()
        return response(status, content_type, body, with_body=method != "HEAD")


async def _head(connection: socket.socket) -> bytes:
    """A request up to its empty line; what comes behind that is not looked at."""
    loop, head = asyncio.get_running_loop(), b""
    while b"\r\n\r\n" not in head and b"\n\n" not in head:
        if len(head) >= REQUEST_BYTES:
            raise RequestRefused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        chunk = await loop.sock_recv(connection, REQUEST_BYTES - len(head))
        if not chunk:
            raise ConnectionAbortedError
        head += chunk
    return head


def parse(head: bytes) -> tuple[str, str]:
    """Method and path of a request. Raises :class:`RequestRefused`."""
    words = head.split(b"\n", 1)[0].decode("latin-1").split()
    if len(words) != 3 or not words[2].startswith("HTTP/"):
        raise RequestRefused(HTTPStatus.BAD_REQUEST)
    method, target, version = words
    if not version.startswith("HTTP/1."):
        raise RequestRefused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    return method, target.partition("?")[0]


def response(status: int, content_type: str, body: bytes, *, with_body: bool = True) -> bytes:
    """The connection ends with it."""
    lines = [
        f"HTTP/1.1 {int(status)} {HTTPStatus(status).phrase}",
        f"content-type: {content_type}",
        f"content-length: {len(body)}",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        *(["allow: GET, HEAD"] if status == HTTPStatus.METHOD_NOT_ALLOWED else []),
        "connection: close",
    ]
    return "\r\n".join([*lines, "\r\n"]).encode("latin-1") + (body if with_body else b"")


async def _close(connection: socket.socket) -> None:
    """So that the answer is read: what is closed with something unread is reset, and the answer with it."""
    connection.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(LINGER_S):
        for _ in range(8):
            if not await asyncio.get_running_loop().sock_recv(connection, REQUEST_BYTES):
                return


class ConnectionPace:
    """A rate limit: ``most`` at once, then ``a_second`` per second. Pure."""

    def __init__(self, most: int, a_second: float) -> None:
        self._most = most
        self._a_second = a_second
        self._left = float(most)
        self._at: float | None = None

    def wait_s(self, now: float) -> float:
        """Count one, and return how long the next must wait."""
        if self._at is not None:
            self._left = min(self._most, self._left + (now - self._at) * self._a_second)
        self._at = now
        self._left -= 1
        return max(0.0, -self._left / self._a_second)


class Cached:
    """Answers of ``work_out`` that are at most ``fresh_s`` old; a caller waits for an answer that is being computed."""

    def __init__(
        self,
        work_out: Callable[[str, str], Awaitable[Answer]],
        *,
        fresh_s: float = FRESH_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work_out = work_out
        self._fresh_s = fresh_s
        self._clock = clock
        self._answers: dict[tuple[str, str], tuple[float, Answer]] = {}
        self._turns: dict[tuple[str, str], asyncio.Lock] = {}

    async def __call__(self, method: str, path: str) -> Answer:
        """Only for a closed set of methods and paths, because each answer is kept."""
        key = method, path
        async with self._turns.setdefault(key, asyncio.Lock()):
            found = self._answers.get(key)
            if found is None or self._clock() - found[0] > self._fresh_s:
                found = self._answers[key] = self._clock(), await self._work_out(method, path)
            return found[1]
