"""``application/vnd.amazon.eventstream``: the format of AWS's streaming answers, messages with two checksums."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from consumer.local.codecs import Codec
from consumer.local.kinesis.errors import KinesisError
from consumer.local.kinesis.subscriptions import Subscription
from consumer.local.request import Receive, Send

CONTENT_TYPE = b"application/vnd.amazon.eventstream"
STRING = 7
LOOK_S = 0.1
"""Seconds between two checks for changes that no request causes: the end of a reshard, or of the subscription."""
GATHER_S = 0.02
"""Seconds to wait for more records before an event is sent. AWS waits longer."""


def message(headers: dict[str, str], payload: bytes) -> bytes:
    """Encode one message: lengths, their CRC32, headers, payload, and the CRC32 of everything before."""
    written = b"".join(_header(name.encode(), value.encode()) for name, value in headers.items())
    prelude = (16 + len(written) + len(payload)).to_bytes(4) + len(written).to_bytes(4)
    body = prelude + zlib.crc32(prelude).to_bytes(4) + written + payload
    return body + zlib.crc32(body).to_bytes(4)


def _header(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + bytes([STRING]) + len(value).to_bytes(2) + value


def event(kind: str, content: dict[str, Any], codec: Codec) -> bytes:
    """Encode one event, for example ``SubscribeToShardEvent``."""
    headers = {":message-type": "event", ":event-type": kind, ":content-type": codec.content_type.decode()}
    return message(headers, codec.encode(content))


def exception(error: KinesisError, codec: Codec) -> bytes:
    """Encode an error that ends the stream."""
    headers = {
        ":message-type": "exception",
        ":exception-type": error.code,
        ":content-type": codec.content_type.decode(),
    }
    return message(headers, codec.encode({"message": error.message}))


class News:
    """Wakes every task that waits for a change."""

    def __init__(self) -> None:
        self._event: asyncio.Event | None = None

    def tell(self) -> None:
        """Wake every task that waits. Must be called in the event loop of the server."""
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self, timeout_s: float) -> None:
        """Return after the next :meth:`tell`, or after ``timeout_s`` seconds."""
        self._event = self._event or asyncio.Event()
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return


class EventStream:
    """The answer to SubscribeToShard: events until the subscription ends, or the client or the server leaves."""

    def __init__(self, subscription: Subscription, codec: Codec, news: News, leaving: Callable[[], bool]) -> None:
        self._subscription = subscription
        self._codec = codec
        self._news = news
        self._leaving = leaving

    async def send(self, send: Send, receive: Receive) -> None:
        """Send the answer through ASGI. Returns when the subscription is over, or the client or the server leaves."""
        headers = [(b"content-type", CONTENT_TYPE), (b"x-amzn-requestid", str(uuid4()).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._part(send, event("initial-response", {}, self._codec))
        left = asyncio.ensure_future(receive())
        try:
            while not (self._subscription.is_over or self._leaving() or left.done()):
                await self._tell(send)
        finally:
            left.cancel()
        await send({"type": "http.response.body", "body": b""})

    async def _tell(self, send: Send) -> None:
        try:
            found = self._subscription.next_event(time.time_ns() // 1_000_000)
        except KinesisError as error:
            await self._part(send, exception(error, self._codec))
            return
        if found is not None:
            await self._part(send, event("SubscribeToShardEvent", found, self._codec))
        if not self._subscription.is_over:
            await self._news.wait(LOOK_S)
            await asyncio.sleep(GATHER_S)

    async def _part(self, send: Send, body: bytes) -> None:
        await send({"type": "http.response.body", "body": body, "more_body": True})
