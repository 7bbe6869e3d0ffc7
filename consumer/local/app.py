"""The ASGI app: reads a request, meets it with a fault where a rule says so, and has it answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from xml.sax.saxutils import escape

import orjson

from consumer.local.encoding import JSON
from consumer.local.errors import AwsError
from consumer.local.faults import Faults, Rule
from consumer.local.http import MAX_BODY_BYTES, Request, Response, TooLarge
from consumer.local.others import Others
from consumer.local.protocol import Kinesis, refuse, respond

ADMIN = "/_penstock/faults"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Gone(Exception):
    """The client went away in the middle of its request."""


class App:
    """``reset(client)`` breaks the connection of the client with that address."""

    def __init__(
        self, kinesis: Kinesis, others: Others, faults: Faults, reset: Callable[[tuple[str, int]], None]
    ) -> None:
        self.kinesis = kinesis
        self.others = others
        self.faults = faults
        self._reset = reset

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            request = await read(scope, receive)
        except Gone:
            return
        except TooLarge:
            await write(send, Response(413, [(b"content-length", b"0"), (b"connection", b"close")], b""))
            return
        if request.path.startswith(ADMIN):
            await write(send, self.admin(request))
            return
        host, port = scope["server"] or ("127.0.0.1", 0)
        rule = self.faults.meeting(request.service(), request.operation()) if self.faults.rules else None
        if rule is None:
            await write(send, await self._answer(request, host, port))
        elif rule.kind == "reset":
            self._reset(tuple(scope["client"]))
        else:
            await write(send, await self._faulty(rule, request, host, port))

    async def _answer(self, request: Request, host: str, port: int) -> Response:
        if request.service() == "kinesis":
            return self.kinesis.answer(request)
        return await self.others.answer(request, host, port)

    async def _faulty(self, rule: Rule, request: Request, host: str, port: int) -> Response:
        if rule.delay_s:
            await asyncio.sleep(rule.delay_s)
        if rule.kind in ("delay", "lost"):
            response = await self._answer(request, host, port)
            if rule.kind == "delay":
                return response
        return refusal(request, rule.error(request.service()))

    def admin(self, request: Request) -> Response:
        """``POST`` a rule, ``DELETE`` one by its id, ``GET`` all."""
        rule_id = request.path.removeprefix(ADMIN).strip("/")
        if request.method == "POST" and not rule_id:
            try:
                made = self.faults.add(dict(orjson.loads(request.body)))
            except (ValueError, TypeError) as error:
                return respond("application/json", 400, orjson.dumps({"error": str(error)}))
            return respond("application/json", 200, orjson.dumps({"id": made}))
        if request.method == "DELETE" and rule_id:
            return respond("application/json", 200 if self.faults.remove(rule_id) else 404, b"{}")
        if request.method == "GET" and not rule_id:
            rules = {key: rule.describe() for key, rule in self.faults.rules.items()}
            return respond("application/json", 200, orjson.dumps(rules))
        return respond("application/json", 404, b"{}")


def refusal(request: Request, error: AwsError) -> Response:
    """An error in the form of the request's service: S3 and the query protocol answer XML, the others JSON or CBOR."""
    if request.target or request.service() == "kinesis":
        return refuse(request, error)
    text = f"<Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
    if request.service() == "s3":
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{text}</Error>'
        return respond("application/xml", error.status, b"" if request.method == "HEAD" else body.encode())
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        body = f"<ErrorResponse><Error>{text}</Error></ErrorResponse>"
        return respond("text/xml", error.status, body.encode())
    return respond(JSON, error.status, orjson.dumps({"__type": error.code, "message": error.message}))


async def read(scope: Message, receive: Receive) -> Request:
    """The request with its whole body. :raises TooLarge: see ``MAX_BODY_BYTES``. :raises Gone: the client left."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge
        if not message.get("more_body"):
            break
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return Request(
        scope["method"],
        scope["raw_path"],
        scope["path"],
        scope["query_string"],
        headers,
        bytes(body),
        scope["http_version"],
    )


async def write(send: Send, response: Response) -> None:
    await send({"type": "http.response.start", "status": response.status, "headers": response.headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": False})
