"""Frames between the host and its replicas, over a socket pair.

    u32 length of the head, u64 length of the body, little endian; the head, a JSON object; the body, raw bytes

Heads are padded so that a body is aligned in memory for Arrow, which reads it where it lies. Nothing that comes
from a replica is unpickled: a record that takes over a replica has not taken over the host.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import orjson

LENGTHS = struct.Struct("<IQ")
ALIGNMENT = 64
HEAD_LIMIT_BYTES = 256 * 1024 * 1024
BODY_LIMIT_BYTES = 64 * 1024 * 1024 * 1024
"""Both are far beyond any batch: they tell frames from garbage."""


class Garbage(Exception):
    """The other side does not speak this protocol."""


class Frame(NamedTuple):
    """``op`` names what is asked or answered; ``head`` holds the rest of the JSON object."""

    op: str
    head: dict[str, Any]
    body: memoryview


def pack(op: str, head: dict[str, Any] | None = None, body: Sequence[bytes | memoryview] = ()) -> list[Any]:
    """A frame as chunks to be written one after the other; what is large is not copied."""
    size = sum(chunk.nbytes if isinstance(chunk, memoryview) else len(chunk) for chunk in body)
    return [_start(op, head or {}, size), *body]


def pack_payloads(op: str, payloads: Sequence[bytes]) -> list[Any]:
    """A frame that carries records' payloads, for :func:`payloads`."""
    sizes = list(map(len, payloads))
    return [_start(op, {"sizes": sizes}, sum(sizes)), *payloads]


def payloads(frame: Frame) -> list[bytes]:
    """What :func:`pack_payloads` packed."""
    ends = accumulate(frame.head["sizes"], initial=0)
    body = frame.body
    return [bytes(body[start:end]) for start, end in pairwise(ends)]


def _start(op: str, head: dict[str, Any], body_size: int) -> bytes:
    """The lengths and the head."""
    text = orjson.dumps({"op": op, **head})
    text += b" " * (-len(text) % ALIGNMENT)
    return LENGTHS.pack(len(text), body_size) + text


def plain(text: str, limit: int) -> str:
    """``text`` as UTF-8 can carry it (lone surrogates escaped), its middle left out beyond ``limit`` characters."""
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]} … {len(text) - 2 * half} characters … {text[-half:]}"
    return text.encode("utf-8", "backslashreplace").decode()


class Assembler:
    """Turns bytes into frames without copying bodies: ask where the next bytes go, put them there, say how many."""

    _buffer: bytearray
    _left: memoryview
    _reads_lengths: bool

    def __init__(self) -> None:
        self._head_size = 0
        self._expect(bytearray(LENGTHS.size), reads_lengths=True)

    def space(self) -> memoryview:
        """Where the next bytes belong; never empty."""
        return self._left

    def wrote(self, size: int) -> Frame | None:
        """So many bytes were put into :meth:`space`; a frame if they completed one. Raises :class:`Garbage`."""
        self._left = self._left[size:]
        if self._left:
            return None
        if self._reads_lengths:
            head_size, body_size = LENGTHS.unpack(self._buffer)
            if not 0 < head_size <= HEAD_LIMIT_BYTES or body_size > BODY_LIMIT_BYTES:
                raise Garbage(f"a frame of {head_size} and {body_size} bytes")
            self._head_size = head_size
            self._expect(bytearray(head_size + body_size), reads_lengths=False)
            return None
        whole = memoryview(self._buffer)
        self._expect(bytearray(LENGTHS.size), reads_lengths=True)
        return _frame(whole[: self._head_size], whole[self._head_size :])

    def _expect(self, buffer: bytearray, *, reads_lengths: bool) -> None:
        self._buffer = buffer
        self._left = memoryview(buffer)
        self._reads_lengths = reads_lengths


def _frame(text: memoryview, body: memoryview) -> Frame:
    try:
        head = orjson.loads(text)
    except orjson.JSONDecodeError:
        head = None
    op = head.pop("op", None) if isinstance(head, dict) else None
    if not isinstance(op, str):
        raise Garbage(f"a head that is none: {bytes(text[:40])!r}")
    return Frame(op, head, body)


def receive(connection: socket.socket, assembler: Assembler) -> Frame | None:
    """The next frame, read by a thread that has nothing else to do; None at the end of the stream."""
    while True:
        size = connection.recv_into(assembler.space())
        if not size:
            return None
        if frame := assembler.wrote(size):
            return frame


def send(connection: socket.socket, chunks: Sequence[Any]) -> None:
    """Write a frame, by a thread that may wait."""
    for chunk in chunks:
        connection.sendall(chunk)


class FrameProtocol(asyncio.BufferedProtocol):
    """The event loop's end. ``on_end`` is called once, when the stream has ended, after garbage too."""

    def __init__(
        self, on_frame: Callable[[Frame], None], on_garbage: Callable[[Garbage], None], on_end: Callable[[], None]
    ) -> None:
        self._on_frame = on_frame
        self._on_garbage = on_garbage
        self._on_end = on_end
        self._assembler = Assembler()
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._assembler.space()

    def buffer_updated(self, nbytes: int) -> None:
        try:
            frame = self._assembler.wrote(nbytes)
        except Garbage as garbage:
            assert self._transport is not None
            self._transport.close()
            self._on_garbage(garbage)
            return
        if frame:
            self._on_frame(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_end()
