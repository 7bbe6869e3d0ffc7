"""Error answers in the format of each service, so that clients see what AWS would send."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

from consumer.local.codecs import codec_for
from consumer.local.faults import FaultRule
from consumer.local.kinesis.engine import Engine
from consumer.local.kinesis.operations import perform
from consumer.local.request import Request, Response

THROTTLED = {"kinesis": "ProvisionedThroughputExceededException", "dynamodb": "ProvisionedThroughputExceededException"}
S3_CODES = {409: "ConditionalRequestConflict", 412: "PreconditionFailed", 500: "InternalError", 503: "SlowDown"}
CODES = {400: "ValidationException", 500: "InternalFailure", 503: "ServiceUnavailable"}
QUERY = "application/x-www-form-urlencoded"
"""The content type of services with AWS's query protocol, such as IAM, STS and CloudFormation; they answer in XML."""

MESSAGE = "A fault of the local AWS"


def failure(fault: FaultRule, request: Request) -> Response:
    """Return the answer for a fault of kind error, throttle or expired_iterator."""
    status, code = fault.status, fault.code
    if fault.kind == "throttle":
        status = 503 if request.service == "s3" else 400
        code = code or THROTTLED.get(request.service, "SlowDown" if request.service == "s3" else "ThrottlingException")
    elif fault.kind == "expired_iterator":
        status, code = 400, "ExpiredIteratorException"
    return failed(request, status, MESSAGE, code)


def put_some(engine: Engine, request: dict[str, Any], fault: FaultRule, now_ms: int) -> dict[str, Any]:
    """Perform PutRecords for some records and refuse a random ``fault.share`` of them."""
    records = request.get("Records", [])
    refused = [fault.dice.random() < fault.share for _ in records]
    kept = [record for record, refuse in zip(records, refused, strict=True) if not refuse]
    answers = iter(perform(engine, "PutRecords", {**request, "Records": kept}, now_ms)["Records"] if kept else [])
    refusal = {"ErrorCode": fault.code or THROTTLED["kinesis"], "ErrorMessage": MESSAGE}
    shown = [refusal if refuse else next(answers) for refuse in refused]
    return {"FailedRecordCount": sum("ErrorCode" in answer for answer in shown), "Records": shown}


def failed(request: Request, status: int, message: str, code: str = "") -> Response:
    """Return an error answer in the format of the request's service. ``code`` defaults to the code for ``status``."""
    if request.service == "s3":
        return _xml(status, _error(code or S3_CODES.get(status, "InternalError"), message), request)
    if request.headers.get("content-type", "").startswith(QUERY):
        error = _error(code or CODES.get(status, "InternalFailure"), message)
        return _xml(status, f"<ErrorResponse>{error}</ErrorResponse>", request)
    codec = codec_for(request.headers.get("content-type", "").encode())
    content = {"__type": code or CODES.get(status, "InternalFailure"), "message": message}
    return Response(status, [(b"content-type", codec.content_type)], codec.encode(content))


def _error(code: str, message: str) -> str:
    return f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"


def _xml(status: int, content: str, request: Request) -> Response:
    body = b"" if request.method == "HEAD" else f'<?xml version="1.0" encoding="UTF-8"?>\n{content}'.encode()
    return Response(status, [(b"content-type", b"application/xml")], body)
