"""The local Kinesis in this process, with a clock that a test moves, because retention takes a day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from consumer.local.codecs import Json
from consumer.local.kinesis.engine import Engine
from consumer.local.kinesis.errors import KinesisError
from consumer.local.kinesis.operations import perform

REGION = "us-east-1"
HOUR_MS = 60 * 60 * 1000


class Answer:
    """A body, as urllib3 returns it."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **options: Any) -> Any:
        yield self._body


class ClockedKinesis:
    """``client``: boto3's own client, whose requests come here. ``before``: called with each operation; may raise
    :class:`KinesisError` or change the request. ``calls``: counts operations."""

    def __init__(self, *, limits: bool = False) -> None:
        self.now_ms = 1_800_000_000_000
        self.calls: Counter[str] = Counter()
        self.before: Callable[[str, dict[str, Any]], None] = lambda operation, request: None
        self._engine = Engine(REGION, limits=limits)
        self.client: Any = boto3.client(
            "kinesis",
            region_name=REGION,
            endpoint_url="http://127.0.0.1:9",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )
        answer: Any = self._answer
        self.client.meta.events.register("before-send.kinesis.*", answer)

    def _answer(self, request: Any, **given: Any) -> AWSResponse:
        operation = request.headers["X-Amz-Target"].decode().rpartition(".")[2]
        self.calls[operation] += 1
        codec, status = Json(), 200
        try:
            content = codec.decode(operation, request.body)
            self.before(operation, content)
            answer = perform(self._engine, operation, content, self.now_ms)
        except KinesisError as error:
            status, answer = error.status, {"__type": error.code, "message": error.message}
        headers: Any = {"content-type": codec.content_type.decode()}
        return AWSResponse(request.url, status, headers, Answer(codec.encode(answer)))
