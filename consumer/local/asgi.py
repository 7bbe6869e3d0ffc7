"""The ASGI application: all services on one port, faults on demand, and the metrics of Kinesis in CloudWatch."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from typing import Any
from uuid import uuid4

import orjson

from consumer.local.access import AccessCounts, stream_of
from consumer.local.codecs import codec_for
from consumer.local.error_responses import failure, put_some
from consumer.local.event_stream import EventStream, News
from consumer.local.faults import FaultRule, Faults
from consumer.local.kinesis.engine import Engine
from consumer.local.kinesis.errors import KinesisError
from consumer.local.kinesis.operations import SUBSCRIBE, perform, subscribe
from consumer.local.moto_services import Moto
from consumer.local.origin import is_control, refusal
from consumer.local.request import Receive, Request, Response, Send, read

OWN_PATH = "/_penstock/"
FAULTS_PATH = f"{OWN_PATH}faults"
CALLS_PATH = f"{OWN_PATH}calls"
ASKED_PATH = f"{OWN_PATH}asked"
RESET_PATH = "/moto-api/reset"
METRICS_EVERY_S = 60.0
ASKED_S = 10.0

Answer = Response | EventStream


class LocalAwsApp:
    """Answers Kinesis with one engine per region, and every other service with moto.

    With ``limits`` off, shards have no rate limits. ``bound`` is the host that the server listens on.
    """

    def __init__(self, *, limits: bool = True, bound: str = "") -> None:
        self.limits = limits
        self.bound = bound
        self.faults = Faults()
        self.news = News()
        self.leaving = False
        self._loop = asyncio.get_running_loop()
        self.moto = Moto(self._ask_kinesis)
        self.engines: dict[str, Engine] = {}
        self.calls: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """The number of requests per service and operation, including those that failed."""
        self.asked = AccessCounts()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI defines it. Scopes other than ``http`` are ignored."""
        if scope["type"] != "http":
            return
        request = await read(scope, receive)
        if request is None:
            return
        why = refusal(request.path, request.headers, self.bound)
        if why is not None:
            await _json(403, {"message": why}).send(send, receive)
        elif is_control(request.path):
            await (await self._control(request)).send(send, receive)
        else:
            await self._serve(request, receive, send)

    async def _serve(self, request: Request, receive: Receive, send: Send) -> None:
        self.calls[request.service][request.operation] += 1
        response = await self._faulty(request, receive) if self.faults else await self.answer(request)
        if response is None:
            request.transport.abort()
        else:
            await response.send(send, receive)

    async def answer(self, request: Request) -> Answer:
        """Answer a request without faults."""
        service = request.service
        if service == "kinesis":
            return self._kinesis(request)
        self.asked.note(request)
        if service == "monitoring":
            await self.flush_metrics()
        return await self.moto.answer(request)

    def leave(self) -> None:
        """End the requests that would not end by themselves: stalled ones and subscriptions."""
        self.leaving = True
        self.faults.remove()
        self.news.tell()

    # -- Kinesis

    def engine(self, region: str) -> Engine:
        """Return the Kinesis of a region; it is created on first use."""
        if region not in self.engines:
            self.engines[region] = Engine(region, limits=self.limits)
        return self.engines[region]

    def _kinesis(self, request: Request, partial: FaultRule | None = None) -> Answer:
        codec = codec_for(request.headers.get("content-type", "").encode())
        status, operation, now_ms = 200, request.operation, time.time_ns() // 1_000_000
        try:
            content = codec.decode(operation, request.body)
            self.asked.note(request, stream_of(content))
            engine = self.engine(request.region)
            if operation == SUBSCRIBE:
                return EventStream(subscribe(engine, content, now_ms), codec, self.news, lambda: self.leaving)
            if partial and operation == "PutRecords":
                answer = put_some(engine, content, partial, now_ms)
            else:
                answer = perform(engine, operation, content, now_ms)
        except KinesisError as error:
            status, answer = error.status, {"__type": error.code, "message": error.message}
        self.news.tell()
        headers = [(b"content-type", codec.content_type), (b"x-amzn-requestid", str(uuid4()).encode())]
        return Response(status, headers, codec.encode(answer) if answer else b"")

    def _ask_kinesis(self, region: str, operation: str, content: dict[str, Any]) -> dict[str, Any]:
        """Perform an operation in the server's event loop, for the threads of moto: an engine is not thread-safe."""

        async def performed() -> dict[str, Any]:
            self.news.tell()
            return perform(self.engine(region), operation, content, time.time_ns() // 1_000_000)

        return asyncio.run_coroutine_threadsafe(performed(), self._loop).result(ASKED_S)

    async def flush_metrics(self) -> None:
        """Send the metrics that Kinesis has counted since the last flush to CloudWatch."""
        for region, engine in self.engines.items():
            drained = engine.metrics.drain()
            if drained:
                await self.moto.put_metrics(region, drained)

    async def flush_metrics_forever(self) -> None:
        """Call :meth:`flush_metrics` every ``METRICS_EVERY_S`` seconds until cancelled."""
        while True:
            await asyncio.sleep(METRICS_EVERY_S)
            await self.flush_metrics()

    # -- faults and counts of calls

    async def _faulty(self, request: Request, receive: Receive) -> Answer | None:
        """Answer a request with the faults in force. None: the connection must be reset."""
        service, operation = request.service, request.operation
        fault = self.faults.pick(service, operation, request.raw_path, request.body)
        if fault is None:
            return await self.answer(request)
        early = await self.answer(request) if fault.performed else None
        if fault.kind == "reset" or (fault.kind == "stall" and not await _outlasts(fault, receive)):
            return None
        if fault.kind in ("error", "throttle", "expired_iterator"):
            return failure(fault, request)
        if fault.kind == "delay":
            await asyncio.sleep(fault.delay_s)
        if fault.kind == "partial":
            return self._kinesis(request, fault)
        return early or await self.answer(request)

    async def _control(self, request: Request) -> Response:
        """Faults: GET lists them, POST adds one, DELETE ends one (``…/faults/<id>``) or all.

        Calls, and who asked for what: GET; DELETE of the calls forgets both.

        Other control paths go to moto. Its reset also deletes all streams.
        """
        if not request.path.startswith(OWN_PATH):
            if (request.method, request.path) == ("POST", RESET_PATH):
                self._empty()
            return await self.moto.answer(request)
        try:
            shown = self._controlled(request)
        except ValueError as error:
            return _json(400, {"message": str(error)})
        return _json(200, shown)

    def _empty(self) -> None:
        for engine in self.engines.values():
            engine.streams.clear()  # subscriptions hold on to their engine
        self.engines.clear()

    def _controlled(self, request: Request) -> Any:
        if request.path == CALLS_PATH:
            counted = dict(self.calls)
            if request.method == "DELETE":
                self.calls.clear()
                self.asked.clear()
            return counted
        if request.path == ASKED_PATH:
            return self.asked.to_list()
        if not request.path.startswith(FAULTS_PATH):
            raise ValueError(f"{request.path} does not exist. Use {FAULTS_PATH} or {CALLS_PATH}")
        if request.method == "POST":
            return self.faults.add(FaultRule.parse(orjson.loads(request.body))).to_dict()
        if request.method == "DELETE":
            return [fault.to_dict() for fault in self.faults.remove(_fault_id(request.path))]
        return [fault.to_dict() for fault in self.faults.all()]


def _fault_id(path: str) -> int | None:
    """The id of the rule that a path names; None for all rules. Raises ``ValueError``."""
    number = path.removeprefix(FAULTS_PATH).strip("/")
    if not number:
        return None
    if not (number.isascii() and number.isdecimal() and len(number) < 20):
        raise ValueError(f"{number!r} is not the id of a fault. Use {FAULTS_PATH}/<id>, with an id that GET lists")
    return int(number)


async def _outlasts(fault: FaultRule, receive: Receive) -> bool:
    """Wait for the end of a stall. Returns False if the client disconnects first."""
    over, left = asyncio.ensure_future(fault.over.wait()), asyncio.ensure_future(receive())
    done, pending = await asyncio.wait((over, left), return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return left not in done


def _json(status: int, content: Any) -> Response:
    return Response(status, [(b"content-type", b"application/json")], orjson.dumps(content))
