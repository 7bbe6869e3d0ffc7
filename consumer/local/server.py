"""One process, one port: Kinesis and all the rest, over HTTP/1.1 and HTTP/2 with prior knowledge."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable

import orjson
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config

from consumer.local.app import App
from consumer.local.cloudwatch import Metrics
from consumer.local.engine import Engine
from consumer.local.faults import Faults
from consumer.local.others import Others
from consumer.local.protocol import Kinesis
from pipeline.errors import UserError

REGION = "us-east-1"


def configuration() -> Config:
    """Bodies go by in large frames, and a client's idle connections are left to the client."""
    config = Config()
    config.h2_max_inbound_frame_size = 1 << 20
    config.h2_max_concurrent_streams = 1000
    config.keep_alive_timeout = 600.0
    config.keep_alive_max_requests = 1 << 40
    config.max_app_queue_size = 100
    config.include_server_header = False
    config.errorlog = None
    return config


class Connections:
    """The open connections by the client's address, to break one on purpose and all at the end."""

    def __init__(self, config: Config) -> None:
        self.app: ASGIWrapper | None = None
        self._config = config
        self._context = WorkerContext(None)
        self._open: dict[tuple[str, int], asyncio.StreamWriter] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = tuple(writer.get_extra_info("peername")[:2])
        task = asyncio.current_task()
        assert task is not None
        assert self.app is not None
        self._open[client] = writer
        self._tasks.add(task)
        try:
            loop = asyncio.get_running_loop()
            await TCPServer(self.app, loop, self._config, self._context, {}, reader, writer)
        except asyncio.CancelledError:
            pass  # the server is stopping, and asyncio would report each connection's end as an error
        finally:
            self._tasks.discard(task)
            self._open.pop(client, None)

    def reset(self, client: tuple[str, int]) -> None:
        """Break a connection at once: its client sees a reset, not an end."""
        writer = self._open.get(client)
        if writer is None:
            return
        raw = writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    def close(self) -> None:
        for writer in list(self._open.values()):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. :raises UserError: the address is in use, or none of this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(512)
    except OSError as error:
        bound.close()
        raise UserError(f"cannot listen on {host}:{port}: {error.strerror}. Choose another --port.") from None
    bound.setblocking(False)
    return bound


async def serve(
    bound: socket.socket, *, limits: bool, ready: Callable[[str], None], stop: asyncio.Event, metrics_s: float = 60.0
) -> None:
    """Serve until ``stop``. ``ready`` hears the endpoint once it answers; moto is still loading then, and its first
    callers wait for it."""
    host, port = bound.getsockname()[:2]
    others = Others()
    metrics = Metrics(others.locks["monitoring"])
    connections = Connections(configuration())
    app = App(Kinesis(Engine(limits, metrics)), others, Faults(), connections.reset)
    connections.app = ASGIWrapper(app)  # type: ignore[arg-type]
    server = await asyncio.start_server(connections.serve, sock=bound, backlog=512)
    ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    others.load()
    publishing = asyncio.create_task(metrics.keep_publishing(metrics_s, REGION))
    try:
        await stop.wait()
    finally:
        publishing.cancel()
        server.close()
        connections.close()
        others.close()


def check_host(host: str, allow_remote: bool) -> None:
    """:raises UserError: others could reach it, and nobody said they may."""
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local and not allow_remote:
        raise UserError(
            f"--host {host} can be reached from other machines, and the local AWS asks nobody who they are. "
            "Add --allow-remote to permit it."
        )


def up(host: str, port: int, limits: bool, allow_remote: bool = False, leash: bool = False) -> int:
    """Serve until SIGTERM or SIGINT, then exit at once with 0. One line of JSON on stdout says when it is ready.

    ``leash``: also stop when stdin ends, as it does when the process that started this one dies.

    :raises UserError: the port is taken, or the host is not loopback and ``allow_remote`` is not set.
    """
    check_host(host, allow_remote)
    bound = listen(host, port)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    asyncio.run(_until_stopped(bound, limits, leash))
    sys.stdout.flush()
    # Threads of moto that are still loading or answering would hold the exit up; there is nothing they could save.
    os._exit(0)


async def _until_stopped(bound: socket.socket, limits: bool, leash: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if leash:
        loop.add_reader(sys.stdin.fileno(), _check_leash, stop)
    await serve(bound, limits=limits, ready=_say_ready, stop=stop)


def _check_leash(stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1024):
        stop.set()


def _say_ready(endpoint: str) -> None:
    line = {"endpoint": endpoint, "region": REGION, "pid": os.getpid()}
    sys.stdout.write(orjson.dumps(line).decode() + "\n")
    sys.stdout.flush()
