"""HTTP/1.1 of the local AWS: requests in any pieces, answers in order, and what is not HTTP."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from consumer.local.http1 import MOST_AHEAD, Http1
from consumer.local.http1_requests import MOST_HEAD
from consumer.local.request import Receive, Request, Response, Send

PLAIN = b"PUT /a%20b?x=1 HTTP/1.1\r\nHost: here\r\nX-Amz-Meta-a_b:  v \r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST / HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n"
    b"2;ext=1\r\nhe\r\n3\r\nllo\r\n0\r\nx-amz-checksum-crc32: AAAA\r\n\r\n"
)
DATE = rb"date: [^\r]+"
GET = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n"


class Wire(asyncio.Transport):
    """A connection whose other side is the test."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.sent = b""
        self.closed = self.paused = False
        self.asked: list[Request] = []
        self.upgraded = b""
        self.gone = False
        self.hold = asyncio.Event()
        self.hold.set()
        self.answer: list[dict[str, Any]] = [start(), {"type": "http.response.body", "body": b"done"}]
        self.now: Response | None = None
        self.protocol = Http1(self, self.upgrade, lambda client: client)
        self.protocol.connection_made(self)

    def at_once(self, request: Request) -> Response | None:
        if self.now is not None:
            self.asked.append(request)
        return self.now

    async def respond(self, request: Request, receive: Receive, send: Send) -> None:
        self.asked.append(request)
        await self.hold.wait()
        if request.path == "/leave":
            self.gone = (await receive())["type"] == "http.disconnect"
        for message in self.answer:
            await send(message)

    def upgrade(self, transport: asyncio.Transport, came: bytes) -> None:
        self.upgraded = came

    def write(self, data: Any) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    async def come(self, *parts: bytes) -> None:
        for part in parts:
            self.protocol.data_received(part)
            await asyncio.sleep(0)
        for _ in range(9):
            await asyncio.sleep(0)


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers or [(b"content-length", b"4")])}


def spoken(*parts: bytes, **settings: Any) -> Wire:
    async def speak() -> Wire:
        wire = Wire()
        vars(wire).update(settings)
        await wire.come(*parts)
        return wire

    return asyncio.run(speak())


@pytest.mark.parametrize("whole", [PLAIN, CHUNKED], ids=["of known length", "in chunks"])
def test_a_request_is_the_same_in_any_two_pieces_and_byte_by_byte(whole: bytes) -> None:
    pieces = [(whole[:at], whole[at:]) for at in range(1, len(whole))]
    for parts in [(whole,), *pieces, tuple(bytes([byte]) for byte in whole)]:
        wire = spoken(*parts)
        assert [request.body for request in wire.asked] == [b"hello"], parts
        assert wire.sent.startswith(b"HTTP/1.1 200 OK\r\n") and wire.sent.endswith(b"\r\n\r\ndone")
        assert not wire.closed


def test_the_parts_of_a_request() -> None:
    (request,) = spoken(PLAIN).asked
    assert (request.method, request.path, request.raw_path, request.query) == ("PUT", "/a b", b"/a%20b", b"x=1")
    listed = [("host", "here"), ("x-amz-meta-a_b", "v"), ("content-length", "5")]
    assert (request.header_list, request.headers, request.http_version) == (listed, dict(listed), "1.1")


def test_requests_that_come_at_once_are_answered_one_after_the_other() -> None:
    wire = spoken(PLAIN + b"\r\n" + CHUNKED + GET + GET[:9])
    assert [request.method for request in wire.asked] == ["PUT", "POST", "GET"]
    assert wire.sent.count(b"HTTP/1.1 200") == 3


def test_what_need_not_wait_is_answered_at_once_and_alike() -> None:
    for said in (PLAIN + CHUNKED + GET, b"HEAD / HTTP/1.1\r\n\r\n" + GET, b"GET / HTTP/1.0\r\n\r\n" + GET):
        slow, quick = spoken(said), spoken(said, now=Response(200, [], b"done"))
        assert re.sub(DATE, b"", quick.sent) == re.sub(DATE, b"", slow.sent)
        assert (len(quick.asked), quick.closed) == (len(slow.asked), slow.closed)


def test_a_client_that_does_not_wait_for_its_answer_is_read_no_further() -> None:
    async def speak() -> None:
        wire = Wire()
        wire.hold.clear()
        await wire.come(GET, GET)
        assert (len(wire.asked), wire.paused) == (1, False)
        await wire.come(b"PUT / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % MOST_AHEAD + b"x" * MOST_AHEAD)
        assert (len(wire.asked), wire.paused) == (1, True)
        wire.hold.set()
        await wire.come()
        assert ([len(request.body) for request in wire.asked], wire.paused) == ([0, 0, MOST_AHEAD], False)

    asyncio.run(speak())


def test_a_request_under_way_hears_that_its_client_leaves() -> None:
    async def speak() -> None:
        wire = Wire()
        await wire.come(b"GET /leave HTTP/1.1\r\n\r\n")
        assert not wire.gone
        wire.protocol.connection_lost(None)
        await wire.come()
        assert (wire.gone, wire.sent) == (True, b"")

    asyncio.run(speak())


@pytest.mark.parametrize("length", [b"5", b"0"])
def test_a_client_that_asks_whether_to_send_its_body_is_told_to_unless_it_has_sent_it(length: bytes) -> None:
    head = b"PUT / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: %s\r\n\r\n" % length
    wire = spoken(head)
    assert wire.sent.startswith(b"HTTP/1.1 100 Continue\r\n\r\n" if length == b"5" else b"HTTP/1.1 200 OK\r\n")
    assert spoken(head + b"hello").sent.startswith(b"HTTP/1.1 200 OK\r\n")


def test_an_answer_in_parts_comes_in_chunks() -> None:
    parts = [{"type": "http.response.body", "body": body, "more_body": body != b""} for body in (b"one", b"two", b"")]
    asked_by = {b"1.1": b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n", b"1.0": b"onetwo"}
    for version, body in asked_by.items():
        wire = spoken(b"GET / HTTP/%s\r\n\r\n" % version, answer=[start(200, (b"a", b"b")), *parts])
        assert wire.sent.partition(b"\r\n\r\n")[2] == body
        assert wire.closed == (version == b"1.0")


def test_answers_without_a_body() -> None:
    wire = spoken(b"HEAD / HTTP/1.1\r\n\r\n")
    assert wire.sent.endswith(b"\r\n\r\n") and b"content-length: 4" in wire.sent
    assert spoken(GET, answer=[start(204, (b"a", b"b")), {"type": "http.response.body"}]).sent.endswith(b"\r\n\r\n")
    closed = spoken(b"GET / HTTP/1.1\r\nConnection: Close\r\n\r\n")
    assert closed.closed and b"\r\nconnection: close\r\n" in closed.sent


def test_an_answer_that_does_not_come_or_ends_early_ends_the_connection() -> None:
    for answer in ([], [start()], [start(), {"type": "http.response.body", "body": b"d", "more_body": True}]):
        assert spoken(GET, answer=answer).closed
    assert spoken(GET, answer=[{"type": "http.response.start"}]).closed  # an error of the application


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"HELLO\r\n\r\n", 400),
        (b"GET / HTTP/3\r\n\r\n", 400),
        (b"GET /\xe9 HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost : here\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\na: b\r\n folded\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n", 501),
        (b"PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nx\r\n", 400),
        (b"PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc\r\n", 400),
        (b"PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" + b"1" * 2000, 400),
        (b"GET / HTTP/1.1\r\na: " + b"b" * MOST_HEAD, 431),
    ],
)
def test_what_is_not_http_gets_an_error_and_the_connection_ends(said: bytes, status: int) -> None:
    wire = spoken(said)
    assert wire.asked == []
    assert wire.sent.startswith(b"HTTP/1.1 %d " % status)
    assert wire.closed


def test_a_connection_that_begins_with_http2_is_handed_over_with_all_that_has_come() -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for at in range(18, len(preface) + 1):
        assert spoken(preface[:at]).upgraded == preface[:at]
    assert spoken(*(preface[at : at + 1] for at in range(18))).upgraded == preface[:18]
    wire = spoken(b"P", PLAIN[1:])
    assert (wire.upgraded, [request.body for request in wire.asked]) == (b"", [b"hello"])
