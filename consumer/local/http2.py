"""HTTP/2 with prior knowledge for the local AWS: hypercorn reads and writes it. KCL's client of Kinesis needs it."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config

KEEP_ALIVE_S = 3600.0


class Http2:
    """The connections that speak HTTP/2. ``app`` is an ASGI application."""

    def __init__(self, app: Any) -> None:
        self._app = ASGIWrapper(app)
        self._config = _configured()
        self._context = WorkerContext(None)
        self._tasks: set[asyncio.Task[None]] = set()

    def take_over(self, transport: asyncio.Transport, came: bytes) -> None:
        """Serve a connection from which ``came`` has been read already."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        reader.feed_data(came)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        server = TCPServer(self._app, loop, self._config, self._context, {}, reader, writer)
        task = loop.create_task(server.run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self, wait_s: float) -> None:
        """Wait until the connections have closed, for ``wait_s`` seconds at most. Each must be closing already."""
        await self._context.terminated.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=wait_s)


def _configured() -> Config:
    config = Config()
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.keep_alive_max_requests = sys.maxsize
    config.include_server_header = False
    config.h2_max_concurrent_streams = 1000
    config.accesslog = None
    config.loglevel = "WARNING"
    return config
