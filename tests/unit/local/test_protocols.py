"""The first bytes of a connection tell its protocol, in whatever pieces they come."""

from __future__ import annotations

import asyncio
import socket

import pytest

from consumer.local.protocols import PREFACE, FirstBytes, Http2Server

PUT = b"PUT /a HTTP/1.1\r\nhost: here\r\ncontent-length: 5\r\n\r\nhello"


class Wire(asyncio.Transport):
    """A connection whose other side is the test."""

    def __init__(self, *parts: bytes) -> None:
        super().__init__()
        self.over_http1 = self.over_http2 = b""
        self.protocol: asyncio.BaseProtocol = FirstBytes(lambda: Http1(self), self.relay)
        self.protocol.connection_made(self)
        for part in parts:
            assert isinstance(self.protocol, asyncio.Protocol)
            self.protocol.data_received(part)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def relay(self, transport: asyncio.Transport, came: bytes) -> None:
        assert transport is self
        self.over_http2 = came


class Http1(asyncio.Protocol):
    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.made: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made = transport

    def data_received(self, data: bytes) -> None:
        assert self.made is self.wire
        self.wire.over_http1 += data


@pytest.mark.parametrize("whole", [PUT, b"PRI * HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"GET"])
def test_what_does_not_begin_http2_is_handed_to_http1_as_a_whole(whole: bytes) -> None:
    pieces = [(whole[:at], whole[at:]) for at in range(1, len(whole))]
    for parts in [(whole,), *pieces, tuple(bytes([byte]) for byte in whole)]:
        wire = Wire(*parts)
        assert (wire.over_http1, wire.over_http2) == (whole, b""), parts


def test_what_begins_http2_is_relayed_with_all_that_has_come() -> None:
    whole = PREFACE + b"settings"
    for at in range(1, len(whole)):
        wire = Wire(whole[:at])
        assert wire.over_http1 == b""
        assert wire.over_http2 == (whole[:at] if at >= len(PREFACE) else b"")
    assert Wire(*(bytes([byte]) for byte in PREFACE)).over_http2 == PREFACE


def test_a_client_is_not_left_waiting_where_http2_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    class Outside(Wire):
        aborted = False

        def pause_reading(self) -> None:
            pass

        def abort(self) -> None:
            self.aborted = True

    async def refused(*_: object) -> None:
        raise ConnectionRefusedError

    async def closed(listener: socket.socket) -> None:
        listener.close()

    async def speak() -> bool:
        server, outside = Http2Server(None), Outside()
        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", refused)
        monkeypatch.setattr(server, "_serve", closed)
        server.relay(outside, PREFACE)
        await server.end()
        return outside.aborted

    assert asyncio.run(speak())


def test_a_request_whose_client_has_left_is_known_by_the_relay() -> None:
    async def left() -> object:
        return Http2Server(None).client_of(("127.0.0.1", 1))

    assert asyncio.run(left()) == ("127.0.0.1", 1)
