"""How each service words its failures, so that clients see what they would see of AWS."""

from __future__ import annotations

from consumer.local.faults import Fault
from consumer.local.request import Request, Response
from consumer.local.wire import codec_for

THROTTLED = {"kinesis": "ProvisionedThroughputExceededException", "dynamodb": "ProvisionedThroughputExceededException"}
S3_CODES = {409: "ConditionalRequestConflict", 412: "PreconditionFailed", 500: "InternalError", 503: "SlowDown"}
CODES = {400: "ValidationException", 500: "InternalFailure", 503: "ServiceUnavailable"}
MESSAGE = "A fault of the local AWS"


def failure(fault: Fault, request: Request) -> Response:
    """The answer that a fault of kind error, throttle or expired_iterator asks for."""
    status, code = fault.status, fault.code
    if fault.kind == "throttle":
        status = 503 if request.service == "s3" else 400
        code = code or THROTTLED.get(request.service, "SlowDown" if request.service == "s3" else "ThrottlingException")
    elif fault.kind == "expired_iterator":
        status, code = 400, "ExpiredIteratorException"
    if request.service == "s3":
        return _xml(status, code or S3_CODES.get(status, "InternalError"), request)
    codec = codec_for(request.headers.get("content-type", "").encode())
    content = {"__type": code or CODES.get(status, "InternalFailure"), "message": MESSAGE}
    return Response(status, [(b"content-type", codec.content_type)], codec.encode(content))


def _xml(status: int, code: str, request: Request) -> Response:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{MESSAGE}</Message></Error>'
    return Response(status, [(b"content-type", b"application/xml")], b"" if request.method == "HEAD" else text.encode())
