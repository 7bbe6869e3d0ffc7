"""Every service except Kinesis: moto as a WSGI application, with one request at a time per service."""

from __future__ import annotations

import asyncio
import io
import sys
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Lock
from typing import Any

from consumer.local import moto_dynamodb, moto_speed
from consumer.local.cloudformation import Ask, adopt
from consumer.local.error_responses import failed
from consumer.local.kinesis.engine import ACCOUNT
from consumer.local.kinesis.metrics import Key, Statistics
from consumer.local.request import Request, Response
from consumer.local.stream_users import refused

THREADS = 8
MAKE_STACKS = ("cloudformation", "servicecatalog")
NOT_AWS = "The request is not signed, and its host, path and X-Amz-Target name no operation of AWS. Use an AWS client."
PRESERVED_NAMES = "moto.preserved_header_names"
"""The WSGI key in which moto's own server keeps S3 metadata names with an underscore; see moto.core.request."""


class Moto:
    """moto behind locks. It is imported in the background, because the import is slow.

    The backends of moto are not thread-safe. One lock per service makes every request atomic, so only one of two
    competing conditional writes succeeds.
    """

    def __init__(self, kinesis: Ask) -> None:
        """``kinesis`` performs operations of Kinesis; it must be thread-safe."""
        self._kinesis = kinesis
        self._threads = ThreadPoolExecutor(THREADS, "moto")
        self._locks: defaultdict[str, Lock] = defaultdict(Lock)
        self._loading = Lock()
        self._app: Any = None
        self._warm = False
        self._adopted = False

    def warm_up(self) -> asyncio.Future[None]:
        """Import moto and its DynamoDB, which KCL uses, in the background. Other services are imported on first use."""
        return asyncio.get_running_loop().run_in_executor(self._threads, self._warm_up)

    def close(self) -> None:
        """Stop the threads. Requests that have not started are dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _answer_now(self, request: Request) -> Response | None:
        """Perform a request to DynamoDB in the event loop: a thread would cost more than most of them.

        None: it must wait, or it is of another service.
        """
        if request.service != "dynamodb" or not (self._warm and self._locks["dynamodb"].acquire(blocking=False)):
            return None
        try:
            return self._perform_locked(request)
        finally:
            self._locks["dynamodb"].release()

    async def answer(self, request: Request) -> Response:
        """Perform a request, in a thread if need be. An exception of moto becomes an answer with status 500."""
        response = self._answer_now(request)
        if response is not None:
            return response
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._perform, request)

    async def put_metrics(self, region: str, metrics: dict[Key, Statistics]) -> None:
        """Put metrics of Kinesis into CloudWatch."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._put_metrics, region, metrics)

    # -- in threads

    def _warm_up(self) -> None:
        with self._loading:
            if not self._warm:
                moto_speed.improve()
                moto_dynamodb.load()
                self._warm = True

    def _web_server(self) -> Any:
        """Return moto's own web server. It is imported on first use, because DynamoDB does not need it."""
        self._warm_up()
        with self._loading:
            if self._app is None:
                from moto.moto_server.werkzeug_app import DomainDispatcherApplication

                self._app = DomainDispatcherApplication(_service)
            return self._app

    def _adopt(self) -> None:
        """Run before the first stack is made, not at start: importing CloudFormation is the slowest part of moto."""
        if not self._adopted:
            adopt(self._kinesis)
            self._adopted = True

    def _perform(self, request: Request) -> Response:
        self._warm_up()
        with self._locks[_lock_name(request.service)]:
            return self._perform_locked(request)

    def _perform_locked(self, request: Request) -> Response:
        status: list[Any] = []

        def start_response(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            status[:] = [int(line.split(" ", 1)[0]), headers]
            return lambda data: None

        if (why := refused(request)) is not None:
            return failed(request, 501, why, "NotImplemented")
        try:
            if request.service in MAKE_STACKS:
                self._adopt()
            if request.service == "dynamodb" and moto_dynamodb.takes(request):
                return moto_dynamodb.answer(request)
            body = _whole(self._web_server()(environ(request), start_response))
        except Exception as error:  # noqa: BLE001  # any error of moto becomes an error answer
            return error_answer(request, error)
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in status[1]]
        return Response(status[0], headers, body)

    def _put_metrics(self, region: str, metrics: dict[Key, Statistics]) -> None:
        from moto.cloudwatch.models import cloudwatch_backends

        with self._locks["monitoring"]:
            cloudwatch_backends[ACCOUNT][region].put_metric_data(
                "AWS/Kinesis", [_datum(key, statistics) for key, statistics in metrics.items()]
            )


def error_answer(request: Request, error: Exception) -> Response:
    """Return the answer for an error that moto raised."""
    if isinstance(error, KeyError) and error.args == (request.region,):
        how = f"There is no region {request.region!r}. Set AWS_REGION to a region such as us-east-1"
        return failed(request, 400, how, "InvalidRegion")
    if isinstance(error, MissingServiceError):
        return failed(request, 501, f"The local AWS has no service {request.service}.", "NotImplemented")
    if isinstance(error, NotImplementedError):
        return failed(request, 501, f"moto: {error}", "NotImplemented")
    if not request.access_key and isinstance(error, LookupError | ValueError):
        return failed(request, 400, NOT_AWS, "InvalidRequest")
    return failed(request, 500, f"moto: {type(error).__name__}: {error}")


class MissingServiceError(Exception):
    """moto does not have the service of a request."""


def _service(backend: Any) -> Any:
    """Return moto's web application for one service. ``backend`` is None if moto does not have the service."""
    from moto.moto_server.werkzeug_app import create_backend_app

    if backend is None:
        raise MissingServiceError
    return create_backend_app(backend)


def _whole(chunks: Iterable[bytes]) -> bytes:
    try:
        return b"".join(chunks)
    finally:
        getattr(chunks, "close", lambda: None)()


def _lock_name(service: str) -> str:
    return "monitoring" if service == "cloudwatch" else service


def _datum(key: Key, statistics: Statistics) -> dict[str, Any]:
    dimensions = {"StreamName": key.stream, **({"ShardId": key.shard_id} if key.shard_id else {})}
    return {
        "MetricName": key.name,
        "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
        # Without a time zone: moto compares it with times that have none.
        "Timestamp": datetime.fromtimestamp(key.minute_ms / 1000, UTC).replace(tzinfo=None),
        "StatisticValues": {
            "SampleCount": statistics.count,
            "Sum": statistics.total,
            "Minimum": statistics.least,
            "Maximum": statistics.most,
        },
        "Unit": "Milliseconds" if "Milliseconds" in key.name else "Bytes" if "Bytes" in key.name else "Count",
    }


def environ(request: Request) -> dict[str, Any]:
    """Return the WSGI environment (PEP 3333) of a request."""
    host, _, port = request.headers.get("host", "127.0.0.1").partition(":")
    made: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": request.path.encode().decode("latin-1"),
        "RAW_URI": (request.raw_path + (b"?" + request.query if request.query else b"")).decode("latin-1"),
        "QUERY_STRING": request.query.decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": port or "80",
        "SERVER_PROTOCOL": f"HTTP/{request.http_version}",
        "HTTP_HOST": request.headers.get("host", host),
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_LENGTH": str(len(request.body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        PRESERVED_NAMES: {},
    }
    for name, value in request.header_list:
        key = name.upper().replace("-", "_")
        if key == "CONTENT_TYPE":
            made[key] = value
        elif key not in ("CONTENT_LENGTH", "HOST", "TRANSFER_ENCODING") and not name.startswith(":"):
            made[f"HTTP_{key}"] = f"{made[f'HTTP_{key}']},{value}" if f"HTTP_{key}" in made else value
            if "_" in name and name.lower().startswith("x-amz-meta-"):
                made[PRESERVED_NAMES][f"HTTP_{key}"] = name
    return made
