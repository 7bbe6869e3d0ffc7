"""Serves one port over two protocols: uvicorn speaks HTTP/1.1 with most clients, hypercorn HTTP/2 with KCL's.

Each is the quickest library for its protocol that is well kept. The first bytes of a connection tell which one it
needs. A connection that speaks HTTP/2 is relayed to a second port of this machine, where hypercorn listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from hypercorn.config import Config

KEEP_ALIVE_S = 3600
STREAMS = 1000
BACKLOG = 1024
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""How a connection begins whose client knows that the server speaks HTTP/2: RFC 9113, section 3.4."""

Client = tuple[Any, ...]
Relay = Callable[[asyncio.Transport, bytes], None]


class Http1Server(uvicorn.Server):
    """Serves ``app`` on a listening socket; ``relay`` takes over the connections that speak HTTP/2.

    It stops once ``should_exit`` is set, and leaves signals to its caller.
    """

    def __init__(self, app: Any, relay: Relay) -> None:
        def accept(**of_the_server: Any) -> asyncio.Protocol:
            return FirstBytes(lambda: HttpToolsProtocol(**of_the_server), relay)

        super().__init__(
            uvicorn.Config(
                app,
                http=cast(type[asyncio.Protocol], accept),
                interface="asgi3",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=1,
                backlog=BACKLOG,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handlers."""
        yield


class FirstBytes(asyncio.Protocol):
    """A new connection, until its first bytes tell its protocol."""

    def __init__(self, http1: Callable[[], asyncio.Protocol], relay: Relay) -> None:
        self._http1 = http1
        self._relay = relay
        self._came = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first bytes."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Hand the connection over once its protocol is known, with all that has come."""
        self._came += data
        if self._came.startswith(PREFACE):
            self._relay(self._transport, self._came)
        elif not PREFACE.startswith(self._came):
            protocol = self._http1()
            self._transport.set_protocol(protocol)
            protocol.connection_made(self._transport)
            protocol.data_received(self._came)


class Http2Server:
    """Serves ``app`` over HTTP/2, on a port of its own that it opens for the first connection."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._clients: dict[int, Client] = {}
        self._address: Client | None = None
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def client_of(self, relayed: Client) -> Client:
        """Return the address of the client behind a relayed connection; its own address if the client has left."""
        return self._clients.get(relayed[1], relayed)

    def relay(self, transport: asyncio.Transport, came: bytes) -> None:
        """Take over a connection from which ``came`` has been read already."""
        transport.pause_reading()
        if self._address is None:
            listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
            self._address = listener.getsockname()
            self._run(self._serve(listener))
        self._run(self._connect(transport, came, *self._address))

    async def end(self) -> None:
        """Stop. Every client must have left."""
        self._stop.set()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _run(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, listener: socket.socket) -> None:
        from hypercorn.asyncio import serve

        await serve(self._app, _configured(listener), shutdown_trigger=self._stop.wait)

    async def _connect(self, outside: asyncio.Transport, came: bytes, host: str, port: int) -> None:
        try:
            inside, _ = await asyncio.get_running_loop().create_connection(lambda: Relayed(outside), host, port)
        except OSError:  # it is ending: a client that waits would wait for ever
            outside.abort()
            return
        relayed = inside.get_extra_info("sockname")[1]
        self._clients[relayed] = outside.get_extra_info("peername")
        outside.set_protocol(Relayed(inside, lambda: self._clients.pop(relayed)))
        inside.write(came)
        outside.resume_reading()


class Relayed(asyncio.Protocol):
    """One end of a relayed connection: passes everything on to the ``other`` end, as quickly as that takes it."""

    def __init__(self, other: asyncio.Transport, ended: Callable[[], object] = lambda: None) -> None:
        self._other = other
        self._ended = ended

    def data_received(self, data: bytes) -> None:
        """Pass it on."""
        self._other.write(data)

    def pause_writing(self) -> None:
        """Read no more from the other end until this one has taken what was written."""
        self._other.pause_reading()

    def resume_writing(self) -> None:
        """Read from the other end again."""
        self._other.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the other end after what was written to it."""
        self._other.close()
        self._ended()


def _configured(listener: socket.socket) -> Config:
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.keep_alive_max_requests = sys.maxsize
    config.include_server_header = False
    config.h2_max_concurrent_streams = STREAMS
    config.accesslog = None
    config.loglevel = "WARNING"
    config.graceful_timeout = 1
    return config
