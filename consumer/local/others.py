"""The services that are not ours: moto, called in threads, one request per service at a time."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from consumer.local.http import Headers, Request, Response

WARM = ("s3", "dynamodb", "cloudwatch", "sts")
"""What nearly every user of the local AWS calls first; made ready in the background."""

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Others:
    """moto's services. Thread-safe by a lock per service: moto itself is not, and without the lock two conditional
    writes could both win."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(8, "moto")
        self._app: Future[Wsgi] = Future()
        self.locks: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)

    def load(self) -> None:
        """Import moto, which takes seconds, in a thread of its own; requests wait for it."""
        threading.Thread(target=self._load, name="moto-load", daemon=True).start()

    def _load(self) -> None:
        try:
            from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

            app = DomainDispatcherApplication(create_backend_app)
            self._app.set_result(app)
            for service in WARM:
                app.get_application({"HTTP_HOST": service, "PATH_INFO": "/", "wsgi.input": io.BytesIO()})
        except BaseException as error:  # noqa: BLE001  # every request that waits hears of it
            if not self._app.done():
                self._app.set_exception(error)

    async def answer(self, request: Request, host: str, port: int) -> Response:
        environ = environ_of(request, host, port)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._call, request.service(), environ)

    def _call(self, service: str, environ: dict[str, Any]) -> Response:
        started: list[tuple[str, list[tuple[str, str]]]] = []
        app = self._app.result()
        with self.locks[service]:
            parts = app(environ, lambda status, headers, exc_info=None: started.append((status, headers)))
            try:
                body = b"".join(parts)
            finally:
                close = getattr(parts, "close", None)
                if close is not None:
                    close()
        status, raw = started[0]
        headers: Headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in raw]
        return Response(int(status.split(" ", 1)[0]), headers, body)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def environ_of(request: Request, host: str, port: int) -> dict[str, Any]:
    """The request as WSGI has it (PEP 3333)."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": request.path.encode().decode("latin-1"),
        "RAW_URI": request.raw_path.decode("latin-1")
        + (f"?{request.query.decode('latin-1')}" if request.query else ""),
        "QUERY_STRING": request.query.decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/{request.http_version}",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers.items():
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        environ[key] = value
    environ["CONTENT_LENGTH"] = str(len(request.body))
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ.setdefault("HTTP_HOST", f"{host}:{port}")
    return environ
