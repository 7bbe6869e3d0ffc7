"""The short way to moto's DynamoDB: without its web server, which takes half of the time of a small request."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from consumer.local.request import Request, Response

TARGET = "DynamoDB_20120810."
NOT_HERE = ("origin", "content-encoding")
"""Headers with which moto's web server must answer: it allows browsers what they ask for, and decompresses bodies."""


def takes(request: Request) -> bool:
    """Whether :func:`answer` can answer a request as moto's web server would."""
    return (
        request.method == "POST"
        and request.raw_path == b"/"
        and not request.query
        and request.headers.get("x-amz-target", "").startswith(TARGET)
        and request.headers.get("authorization", "") != ""
        and not any(name in request.headers for name in NOT_HERE)
    )


def load() -> None:
    """Import what :func:`answer` needs."""
    from moto.core.utils import get_service_model

    for name in ("moto.dynamodb.responses", "moto.iam.models"):
        import_module(name)
    get_service_model("dynamodb")


def answer(request: Request) -> Response:
    """Perform a request to DynamoDB. Not thread-safe; raises what moto raises."""
    from moto.dynamodb.responses import DynamoHandler
    from werkzeug.exceptions import HTTPException

    try:
        asked: Any = MotoRequest(request)
        status, headers, body = DynamoHandler.dispatch(asked)
    except HTTPException as error:
        status, headers, body = error.code or 500, dict(error.get_headers()), error.get_body()
    listed = [(name.lower().encode("latin-1"), str(value).encode("latin-1")) for name, value in headers.items()]
    return Response(int(status), listed, body.encode() if isinstance(body, str) else body)


class Headers(dict[str, str]):
    """Headers by names in lower case, found by names in any case."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).lower())

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        """See :meth:`dict.get`."""
        return super().get(name.lower(), default)


class MotoRequest:
    """What moto reads of a request, which is a part of :class:`moto.core.request.Request`."""

    from_wsgi_server = True
    content_encoding = ""
    raw_path = path = "/"

    def __init__(self, request: Request) -> None:
        self.headers = Headers(request.headers)
        self.method = request.method
        self.data = request.body
        self.content_type = request.headers.get("content-type", "")
        self.raw_url = f"http://{request.headers.get('host', '127.0.0.1')}/"
        self.environ: dict[str, Any] = {}
        self.form: dict[str, str] = {}
        self.files: dict[str, Any] = {}
        self.values: dict[str, str] = {}
