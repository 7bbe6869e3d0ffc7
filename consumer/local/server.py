"""Serves the local AWS over HTTP/1.1, and over HTTP/2 with prior knowledge, which is all that KCL speaks."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO
from weakref import WeakValueDictionary

from consumer.local.asgi import LocalAwsApp
from consumer.local.origin import is_loopback
from consumer.local.request import DEFAULT_REGION, Receive, Send
from pipeline.errors import UserError

LEAVE_S = 0.5
"""How long requests under way may take once the server is to stop."""
KEEP_ALIVE_S = 3600.0
BACKLOG = 1024


async def serve(host: str, port: int, *, limits: bool, ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve until ``stop`` is set. ``ready`` is called with the endpoint once connections are accepted.

    Port 0 is a free one. Raises :class:`UserError` if the address cannot be had.
    """
    from hypercorn.asyncio import serve as serve_http
    from hypercorn.config import Config, Sockets

    class Configured(Config):
        def create_sockets(self) -> Sockets:
            return Sockets([], [listener], [])

    app = LocalAwsApp(limits=limits, bound=host)
    listener = _bound(host, port)
    connections = Connections(app, listener)

    async def stopped() -> None:
        await stop.wait()
        app.leave()
        await connections.end()

    warming = app.moto.warm_up()
    flushing = asyncio.create_task(app.flush_metrics_forever())
    try:
        ready(_endpoint(listener))
        await serve_http(connections, _configured(Configured()), shutdown_trigger=stopped)
    finally:
        for task in (flushing, warming):
            task.cancel()
        app.moto.close()


class Connections:
    """An ASGI application around ``app`` that can reset a request's connection and end all of them.

    ASGI has no way to do either. The sockets are known from ``listener``, by the addresses of the clients.
    """

    def __init__(self, app: LocalAwsApp, listener: Listener) -> None:
        self._app = app
        self._listener = listener
        self._under_way: set[asyncio.Task[Any]] = set()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        state = {"transport": Connection(self._listener, tuple(scope["client"]))}
        await self._app({**scope, "state": state}, receive, send)

    async def end(self) -> None:
        """End all connections once no request is under way; what is not answered within ``LEAVE_S`` is cancelled."""
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=LEAVE_S)
            for task in late:
                task.cancel()
        self._listener.end_all()


@dataclass(frozen=True, slots=True)
class Connection:
    """That of one request."""

    listener: Listener
    client: tuple[Any, ...]

    def abort(self) -> None:
        """End it without an answer."""
        self.listener.reset(self.client)


class Listener(socket.socket):
    """Keeps the connections that it accepted, as long as they are open."""

    def __init__(self, family: int) -> None:
        # The protocol by name: asyncio sends small answers at once only on sockets that say they are TCP.
        super().__init__(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._accepted: WeakValueDictionary[tuple[Any, ...], socket.socket] = WeakValueDictionary()

    def accept(self) -> tuple[socket.socket, Any]:
        connection, client = super().accept()
        self._accepted[client[:2]] = connection
        return connection, client

    def reset(self, client: tuple[Any, ...]) -> None:
        """End a connection; what was not sent yet is lost."""
        if (connection := self._accepted.get(client[:2])) is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            _shut(connection)

    def end_all(self) -> None:
        """End every connection once what was written to it is sent."""
        for connection in list(self._accepted.values()):
            _shut(connection)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client was quicker
        connection.shutdown(socket.SHUT_RDWR)


def _configured(config: Any) -> Any:
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.keep_alive_max_requests = sys.maxsize
    config.include_server_header = False
    config.h2_max_concurrent_streams = 1000
    config.accesslog = None
    config.backlog = BACKLOG
    config.loglevel = "WARNING"
    config.graceful_timeout = LEAVE_S
    return config


def _bound(host: str, port: int) -> Listener:
    """Listens already, so that a connection made from now on is accepted in a moment."""
    try:
        sock = Listener(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0])
    except OSError as error:
        raise UserError(f"Cannot listen on {host}: {error.strerror}. Name an address of this machine.") from None
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"Port {port} of {host} is in use. Choose another, or 0 for a free one.") from None
        raise UserError(f"Cannot listen on {host}:{port}: {error.strerror}.") from None
    sock.setblocking(False)
    return sock


def _endpoint(sock: Any) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def up(host: str, port: int, limits: bool, allow_remote: bool = False, until_stdin_closes: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; prints one line of JSON with ``endpoint``, ``region`` and ``pid`` when ready.

    ``until_stdin_closes``: also stop when standard input ends, as it does when the process that holds it dies.
    Refuses an address that other machines can reach unless ``allow_remote``: anybody may do anything here.
    """
    if not (allow_remote or is_loopback(host)):
        raise UserError(
            f"{host} can be reached from other machines, and the local AWS asks nobody who they are. "
            "Use 127.0.0.1, or permit it with --allow-remote."
        )
    asyncio.run(_up(host, port, limits, until_stdin_closes))


async def _up(host: str, port: int, limits: bool, until_stdin_closes: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if until_stdin_closes:
        loop.add_reader(sys.stdin.fileno(), _read_out, stop)
    answer = sys.stdout
    # That one line is all there may be on standard output, whatever moto prints: nobody reads on.
    with contextlib.redirect_stdout(sys.stderr):
        await serve(host, port, limits=limits, ready=lambda endpoint: _say_ready(endpoint, answer), stop=stop)


def _read_out(stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        stop.set()


def _say_ready(endpoint: str, output: TextIO) -> None:
    line = {"endpoint": endpoint, "region": os.environ.get("AWS_REGION", DEFAULT_REGION), "pid": os.getpid()}
    output.write(json.dumps(line) + "\n")
    output.flush()
