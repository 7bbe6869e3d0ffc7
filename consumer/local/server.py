"""Serves the local AWS over HTTP/1.1, and over HTTP/2 with prior knowledge, which is all that KCL speaks."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, TextIO

from consumer.local.asgi import LocalAws
from consumer.local.origin import is_loopback
from consumer.local.request import DEFAULT_REGION
from pipeline.errors import UserError

LEAVE_S = 0.5
"""How long requests under way may take once the server is to stop."""
KEEP_ALIVE_S = 3600.0
BACKLOG = 1024


async def serve(host: str, port: int, *, limits: bool, ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve until ``stop`` is set. ``ready`` is called with the endpoint once requests are answered.

    Port 0 is a free one. Raises :class:`UserError` if the address cannot be had.
    """
    from hypercorn.app_wrappers import ASGIWrapper
    from hypercorn.asyncio.tcp_server import TCPServer
    from hypercorn.asyncio.worker_context import WorkerContext
    from hypercorn.config import Config
    from hypercorn.typing import LifespanState

    app = LocalAws(limits=limits, bound=host)
    wrapped, config, context = ASGIWrapper(app), _configured(Config()), WorkerContext(None)
    loop = asyncio.get_running_loop()
    connections: set[asyncio.Task[Any]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state = LifespanState({"transport": writer.transport})
        await TCPServer(wrapped, loop, config, context, state, reader, writer)

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of ours: asyncio (3.11) reports the cancelling of its own as an error.
        task = asyncio.create_task(converse(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(connected, sock=_bound(host, port), backlog=BACKLOG)
    warming = app.moto.warm_up()
    flushing = asyncio.create_task(app.flush_metrics_forever())
    try:
        ready(_endpoint(server.sockets[0]))
        await stop.wait()
    finally:
        server.close()
        app.leave()
        await context.terminated.set()
        for task in (flushing, warming):
            task.cancel()
        await _end(connections)
        app.moto.close()


async def _end(connections: set[asyncio.Task[Any]]) -> None:
    if not connections:
        return
    _, late = await asyncio.wait(connections, timeout=LEAVE_S)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)


def _configured(config: Any) -> Any:
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.keep_alive_max_requests = sys.maxsize
    config.include_server_header = False
    config.h2_max_concurrent_streams = 1000
    config.accesslog = None
    return config


def _bound(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # The protocol by name: asyncio sends small answers at once only on sockets that say they are TCP.
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise UserError(f"Cannot listen on {host}: {error.strerror}. Name an address of this machine.") from None
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
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
