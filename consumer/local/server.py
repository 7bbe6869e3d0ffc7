"""Serves the local AWS over HTTP/1.1, and over HTTP/2 with prior knowledge, which KCL needs."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TextIO
from weakref import WeakValueDictionary

from consumer.local.asgi import LocalAwsApp
from consumer.local.origin import is_loopback
from consumer.local.request import DEFAULT_REGION, Receive, Response, Send
from pipeline.errors import UserError

LEAVE_S = 0.5
"""Seconds that open requests may take once the server stops."""
BACKLOG = 1024
GARBAGE = (50_000, 20, 20)
"""Thresholds of the garbage collector. By default it takes a tenth of the time: modules and models are many objects."""


async def serve(host: str, port: int, *, limits: bool, ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve until ``stop`` is set. ``ready`` is called with the endpoint once connections are accepted.

    Port 0 is a free port.

    :raises UserError: if the server cannot listen on the address.
    """
    app = LocalAwsApp(limits=limits, bound=host)
    listener = _bound(host, port)
    connections = Connections(app, listener)
    warming = app.moto.warm_up()
    warming.add_done_callback(lambda _: gc.freeze())  # what is imported lives to the end
    flushing = asyncio.create_task(app.flush_metrics_forever())
    try:
        ready(_endpoint(listener))
        await connections.serve(stop)
    finally:
        for task in (flushing, warming):
            task.cancel()
        app.moto.close()


class Connections:
    """The connections to ``app``, over HTTP/1.1 and HTTP/2; they can be reset, and all closed.

    ``listener`` knows the sockets by the addresses of their clients.
    """

    def __init__(self, app: LocalAwsApp, listener: Listener) -> None:
        from consumer.local.protocols import Http1Server, Http2Server

        self._app = app
        self._listener = listener
        self._under_way: set[asyncio.Task[Any]] = set()
        self._http2 = Http2Server(self._over_http2)
        self._http1 = Http1Server(self._over_http1, self._http2.relay)

    async def serve(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set. Open requests may take ``LEAVE_S`` then; all connections are closed."""
        serving = asyncio.create_task(self._http1.serve([self._listener]))
        await stop.wait()
        self._app.leave()
        await self._end_requests()
        self._listener.end_all()
        await self._http2.end()
        self._http1.should_exit = True
        await serving

    async def _over_http1(self, scope: Any, receive: Receive, send: Send) -> None:
        await self._answer(scope, tuple(scope["client"]), receive, send)

    async def _over_http2(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, self._http2.client_of(scope["client"]), receive, send)

    async def _answer(self, scope: Any, client: tuple[Any, ...], receive: Receive, send: Send) -> None:
        """Answer one request through ``app``, with its :class:`Connection` in the scope. A late one gets status 503."""
        scope = {**scope, "state": {"transport": Connection(self._listener, client)}}
        try:
            with self._counted():
                await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not self._app.leaving:
                raise
            with contextlib.suppress(RuntimeError):  # it has begun to answer
                await Response(503, [], b"").send(send, receive)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            yield
        finally:
            self._under_way.discard(task)

    async def _end_requests(self) -> None:
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=LEAVE_S)
            for task in late:
                task.cancel()


@dataclass(frozen=True, slots=True)
class Connection:
    """The connection of one request."""

    listener: Listener
    client: tuple[Any, ...]

    def abort(self) -> None:
        """Reset the connection without an answer."""
        self.listener.reset(self.client)


class Listener(socket.socket):
    """A listening socket that keeps track of its open connections."""

    def __init__(self, family: int) -> None:
        # The protocol is explicit: asyncio disables Nagle's algorithm only on sockets that report TCP.
        super().__init__(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._accepted: WeakValueDictionary[tuple[Any, ...], socket.socket] = WeakValueDictionary()

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection and keep track of it; see :meth:`socket.socket.accept`."""
        connection, client = super().accept()
        self._accepted[client[:2]] = connection
        return connection, client

    def reset(self, client: tuple[Any, ...]) -> None:
        """Reset a connection. Data that has not been sent is lost."""
        if (connection := self._accepted.get(client[:2])) is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            _shut(connection)

    def end_all(self) -> None:
        """Close every connection after its buffered data has been sent."""
        for connection in list(self._accepted.values()):
            _shut(connection)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client has closed it already
        connection.shutdown(socket.SHUT_RDWR)


def _family(host: str, port: int) -> int:
    """:raises UserError: ``host`` is no address, and no name that has one."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"Cannot listen on {host}: {reason}. Use an address of this machine.") from None


def _bound(host: str, port: int) -> Listener:
    """Return a socket that listens already: connections wait until the server accepts them."""
    sock = Listener(_family(host, port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"Port {port} of {host} is in use. Choose another port, or 0 for a free one.") from None
        raise UserError(f"Cannot listen on {host}:{port}: {error.strerror}.") from None
    sock.setblocking(False)
    return sock


def _endpoint(sock: Any) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def up(host: str, port: int, limits: bool, allow_remote: bool = False, until_stdin_closes: bool = False) -> None:
    """Serve until SIGTERM or SIGINT. Prints one line of JSON with ``endpoint``, ``region`` and ``pid`` when ready.

    With ``until_stdin_closes`` the server also stops when standard input closes, for example because its parent died.

    :raises UserError: if the server cannot listen on the address, or if other machines can reach it and
        ``allow_remote`` is not set: requests are not authenticated.
    """
    _family(host, port)
    if not (allow_remote or is_loopback(host)):
        raise UserError(
            f"{host} can be reached from other machines, and the local AWS does not authenticate requests. "
            "Use 127.0.0.1, or allow it with --allow-remote."
        )
    gc.set_threshold(*GARBAGE)
    asyncio.run(_up(host, port, limits, until_stdin_closes))


async def _up(host: str, port: int, limits: bool, until_stdin_closes: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if until_stdin_closes:
        loop.add_reader(sys.stdin.fileno(), _read_out, stop)
    answer = sys.stdout
    # Standard output has only that line: nobody reads it afterwards, and output of moto would fill the pipe.
    with contextlib.redirect_stdout(sys.stderr):
        await serve(host, port, limits=limits, ready=lambda endpoint: _say_ready(endpoint, answer), stop=stop)


def _read_out(stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        stop.set()


def _say_ready(endpoint: str, output: TextIO) -> None:
    line = {"endpoint": endpoint, "region": os.environ.get("AWS_REGION", DEFAULT_REGION), "pid": os.getpid()}
    output.write(json.dumps(line) + "\n")
    output.flush()
