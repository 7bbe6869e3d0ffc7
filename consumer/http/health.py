"""The task's health over HTTP: ``/healthz``, ``/readyz``, ``/metrics``, ``/stats``.

A separate thread serves the requests (:mod:`consumer.http.server`). The answers are computed in the host's event loop,
so an answer also shows that the loop runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self

import orjson

from consumer.http.server import Answer, Cached, Port
from pipeline import background
from pipeline.errors import ConfigError
from pipeline.escape import harmless, shown
from pipeline.metrics import Metrics
from pipeline.outages import Outage

if TYPE_CHECKING:
    from consumer.config.settings import HealthSettings

log = logging.getLogger("health")

Check = Callable[[], str | None]
"""Returns None if everything is healthy, else the reason in one line. Called in the event loop; must not block."""

BACKLOG = 512
LOOP_S = 10.0
"""Seconds after which a request gets status 503, because the event loop has not answered."""

STOP_S = 2.0
"""Seconds for open requests when the task stops."""

PATHS = ("/healthz", "/readyz", "/metrics", "/stats")


class Health:
    """``async with Health(…) as health``: answers at ``health.url`` until the block is left.

    Entering raises ``UserError`` if the port cannot be had: enter early, before anything slow starts. ``on_failure`` is
    told, in the event loop, what has ended the page before its time. ``stats`` is what ``/stats`` says; by default what
    ``metrics`` counts.
    """

    def __init__(
        self,
        settings: HealthSettings,
        metrics: Metrics,
        alive: Check,
        ready: Check,
        on_failure: background.OnFailure = lambda error: log.error("%s", error),
        stats: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._alive = alive
        self._ready = ready
        self._on_failure = on_failure
        self._stats = stats or metrics.snapshot
        self._stop: Callable[[], object] | None = None
        self._ended = asyncio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        """The server's base URL. The port is 0 until the server has started."""
        host = self._settings.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        listener = _listen(self._settings.host, self._settings.port)
        self.port = listener.getsockname()[1]
        serving: Future[Port] = Future()

        def serve() -> None:
            try:
                asyncio.run(self._serve(listener, serving))
            finally:
                listener.close()
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._ended.set)

        background.thread(serve, name="the health page", on_failure=self._on_failure)
        port = await asyncio.wrap_future(serving)
        self._stop = port.stop
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._stop is not None
        with contextlib.suppress(RuntimeError):  # it has ended
            self._threads_loop.call_soon_threadsafe(self._stop)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await self._ended.wait()

    async def _serve(self, listener: socket.socket, serving: Future[Port]) -> None:
        """Serve until the port is stopped. Runs in the server's own thread."""
        self._threads_loop = asyncio.get_running_loop()
        port = Port(listener, _only_known(Cached(self._from_the_loop)))
        serving.set_result(port)
        await port.serve()

    async def _from_the_loop(self, method: str, path: str) -> Answer:
        """Runs in the thread: get the answer from the host's event loop, or status 503."""
        answered: Future[Answer] = Future()

        def work_out() -> None:
            try:
                answered.set_result(self.answer(method, path))
            except Exception as error:
                log.exception("%s failed", path)
                answered.set_result((500, "text/plain", f"{path} failed: {type(error).__name__}\n".encode()))

        try:
            self._loop.call_soon_threadsafe(work_out)
            async with asyncio.timeout(LOOP_S):
                return await asyncio.shield(asyncio.wrap_future(answered))
        except (TimeoutError, RuntimeError):
            return 503, "text/plain", f"the event loop has not answered for {LOOP_S:g} s\n".encode()

    def answer(self, method: str, path: str) -> Answer:
        """Return the answer to a request. Call it in the event loop."""
        if method not in ("GET", "HEAD"):
            return 405, "text/plain", b"GET or HEAD\n"
        if path == "/healthz":
            return _verdict(self._alive(), self._metrics.outages.current())
        if path == "/readyz":
            return _verdict(self._alive() or self._ready())
        if path == "/metrics":
            return 200, self._metrics.content_type, self._metrics.exposition()
        if path == "/stats":
            return 200, "application/json", orjson.dumps(harmless(self._stats()))
        return 404, "text/plain", f"{' '.join(PATHS)}\n".encode()


def _only_known(answer: Callable[[str, str], Awaitable[Answer]]) -> Callable[[str, str], Awaitable[Answer]]:
    """Map unknown methods and paths to one key, so that requests cannot fill the cache."""

    async def known(method: str, path: str) -> Answer:
        return await answer("GET" if method in ("GET", "HEAD") else "POST", path if path in PATHS else "/")

    return known


def _listen(host: str, port: int) -> socket.socket:
    """:raises ConfigError: for ``health.host`` if it is not an address of this machine, else for ``health.port``."""
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except (OSError, UnicodeError) as error:  # of a name that is too long for DNS
        if listener is not None:
            listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        if isinstance(error, UnicodeError | socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            problem = f"cannot listen on {shown(host)} ({reason})"
            how = "Write an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all"
            raise ConfigError("health.host", problem, how) from None
        problem = f"cannot listen on {host}:{port} ({reason})"
        raise ConfigError("health.port", problem, "Set it to a free port, or to 0") from None
    return listener


def _verdict(reason: str | None, outages: Sequence[Outage] = ()) -> Answer:
    """Return the verdict. Outages that are being retried are listed, but do not fail it: a new task would have them
    too."""
    status, lines = (200, ["ok"]) if reason is None else (503, [reason])
    return status, "text/plain", "".join(f"{shown(line)}\n" for line in [*lines, *map(str, outages)]).encode()
