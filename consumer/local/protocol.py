"""Kinesis's protocol in front of the engine."""

from __future__ import annotations

import time
import uuid

from consumer.local.encoding import CBOR, JSON, decode, encode
from consumer.local.engine import Engine
from consumer.local.errors import AwsError
from consumer.local.http import Request, Response

TARGET = "Kinesis_20131202."


class Kinesis:
    """Answers Kinesis requests, in JSON or CBOR as asked. One thread calls it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def answer(self, request: Request) -> Response:
        """Perform the request now. Every failure is an answer in AWS's form."""
        content_type = content_type_of(request)
        try:
            if not request.target.startswith(TARGET):
                raise AwsError("UnknownOperationException", f"not a Kinesis operation: {request.target}")
            body = decode(content_type, request.body)
            region = request.signed_for()[0] or "us-east-1"
            values = self.engine.call(request.target.removeprefix(TARGET), body, time.time(), region)
        except AwsError as error:
            return refuse(request, error)
        return respond(content_type, 200, encode(content_type, values) if values else b"")


def content_type_of(request: Request) -> str:
    return CBOR if request.headers.get("content-type", "").startswith(CBOR) else JSON


def refuse(request: Request, error: AwsError) -> Response:
    """An error in the encoding of its request."""
    content_type = content_type_of(request)
    body = encode(content_type, {"__type": error.code, "message": error.message})
    return respond(content_type, error.status, body, [(b"x-amzn-errortype", error.code.encode())])


def respond(content_type: str, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> Response:
    request_id = str(uuid.uuid4()).encode()
    return Response(
        status,
        [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"x-amzn-requestid", request_id),
            (b"x-amz-id-2", request_id),
            *(headers or ()),
        ],
        body,
    )
