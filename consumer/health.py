"""The task's health over HTTP: ``/healthz``, ``/readyz``, ``/metrics``, ``/stats``.

Served in the host's own event loop, so that an answer also says that the loop turns.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self

import orjson
from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPResponseBodyEvent, HTTPResponseStartEvent, Scope

from pipeline.errors import ConfigError
from pipeline.metrics import Metrics
from pipeline.troubles import Trouble

if TYPE_CHECKING:
    from consumer.config import HealthSettings

Check = Callable[[], str | None]
"""None while all is well, else the reason in one line. Called per request: must not block."""
Answer = tuple[int, str, bytes]
"""Status, content type, body."""

GRACEFUL_S = 1.0
"""What requests under way get when the task stops."""


class Health:
    """``async with Health(…) as health``: answers at ``health.url`` until the block is left.

    Entering raises ``UserError`` if the port cannot be had: enter early, before anything slow starts.
    """

    def __init__(self, settings: HealthSettings, metrics: Metrics, alive: Check, ready: Check) -> None:
        self._settings = settings
        self._metrics = metrics
        self._alive = alive
        self._ready = ready
        self._stop = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        host = self._settings.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    async def __aenter__(self) -> Self:
        listener = _listen(self._settings.host, self._settings.port)
        self.port = listener.getsockname()[1]
        config = Config()
        config.bind = [f"fd://{listener.detach()}"]
        config.accesslog = None
        config.errorlog = logging.getLogger("hypercorn.error")
        config.graceful_timeout = GRACEFUL_S
        self._serving = asyncio.create_task(
            serve(self._app, config, shutdown_trigger=self._stop.wait, mode="asgi"), name="health"
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._stop.set()
        if self._serving is not None:
            await self._serving

    def answer(self, method: str, path: str) -> Answer:
        """What is said to a request."""
        if method not in ("GET", "HEAD"):
            return 405, "text/plain", b"GET or HEAD\n"
        if path == "/healthz":
            return _verdict(self._alive(), self._metrics.troubles.current())
        if path == "/readyz":
            return _verdict(self._alive() or self._ready())
        if path == "/metrics":
            return 200, self._metrics.content_type, self._metrics.exposition()
        if path == "/stats":
            return 200, "application/json", orjson.dumps(self._metrics.snapshot())
        return 404, "text/plain", b"/healthz /readyz /metrics /stats\n"

    async def _app(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            status, content_type, body = self.answer(scope["method"], scope["path"])
            headers = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]
            await send(
                HTTPResponseStartEvent(type="http.response.start", status=status, headers=headers, trailers=False)
            )
            sent = b"" if scope["method"] == "HEAD" else body
            await send(HTTPResponseBodyEvent(type="http.response.body", body=sent, more_body=False))


async def _lifespan(receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    while True:
        event = await receive()
        if event["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif event["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return


def _listen(host: str, port: int) -> socket.socket:
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        if listener is not None:
            listener.close()
        reason = error.strerror or str(error)
        problem = f"cannot listen on {host}:{port} ({reason})"
        raise ConfigError("health.port", problem, "Set it to a free port, or to 0") from None
    return listener


def _verdict(reason: str | None, troubles: Sequence[Trouble] = ()) -> Answer:
    """What fails now and is tried again is said, and is no reason to end a task: the next would meet the same."""
    status, lines = (200, ["ok"]) if reason is None else (503, [reason])
    return status, "text/plain", "".join(f"{line}\n" for line in [*lines, *map(str, troubles)]).encode()
