"""Frames between the host and its replicas, over a socket pair.

    u32 length of the head, u64 length of the body, little endian; the head, a JSON object; the body, raw bytes

Heads are padded so that bodies are aligned for Arrow, which reads them in place. The host never unpickles anything that
a replica sends: a record that takes over a replica cannot take over the host.

Each request has a seal of 16 random bytes. The head contains it, the body ends with it, and the answer carries it in
the same two places. So an answer is matched to its request; and if another process reads from the stream or writes to
it, this is detected, because a shifted frame does not end with the seal.
"""

from __future__ import annotations

import json  # a key may hold lone surrogates, which orjson refuses
import os
import socket
import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import orjson

from pipeline.record import About, Payload

LENGTHS = struct.Struct("<IQ")
ALIGNMENT = 64
HEAD_LIMIT_BYTES = 64 * 1024 * 1024
BODY_LIMIT_BYTES = 2 * 1024 * 1024 * 1024
"""Both limits are far above any batch: they tell frames from garbage. The host sets a lower limit for replicas'
answers.
"""
STEP_BYTES = 4 * 1024 * 1024
"""Memory for a frame grows with the bytes received, not with the lengths claimed: this much first, then doubling."""
SEAL_BYTES = 16

BESIDE_EXAMPLE = "predict beside example"
"""A request with payloads, in which the model's own example is predicted as the last item of the batch."""


class Garbage(Exception):
    """The other side does not keep to this protocol. The text says how."""


class Frame(NamedTuple):
    """``op`` names the request or answer; ``head`` has the other fields of the JSON object. ``seal`` may be empty."""

    op: str
    head: dict[str, Any]
    body: memoryview
    seal: bytes = b""


def new_seal() -> bytes:
    """Make the seal of one request. A process that has not read the request cannot guess it."""
    return os.urandom(SEAL_BYTES)


def pack(op: str, head: dict[str, Any] | None = None, body: Sequence[bytes | memoryview] = ()) -> list[Any]:
    """Make a frame as chunks, to be written in order. Large bodies are not copied."""
    size = sum(chunk.nbytes if isinstance(chunk, memoryview) else len(chunk) for chunk in body)
    return [_start(op, head or {}, size), *body]


def pack_payloads(op: str, payloads: Sequence[bytes]) -> list[Any]:
    """Make a frame with records' payloads, to be read by :func:`payloads`.

    If the payloads are :class:`~pipeline.record.Payload` (all of them, or none), :func:`abouts` returns their records.
    """
    sizes = list(map(len, payloads))
    if not payloads or not isinstance(payloads[0], Payload):
        return [_start(op, {"sizes": sizes}, sum(sizes)), *payloads]
    told = json.dumps([payload.about for payload in payloads if isinstance(payload, Payload)]).encode()
    return [_start(op, {"sizes": sizes, "told": True}, sum(sizes) + len(told)), *payloads, told]


def sealed(chunks: Sequence[Any], seal: bytes) -> list[Any]:
    """Add the seal of its request to a packed frame; an empty seal adds nothing."""
    if not seal:
        return list(chunks)
    _, body_size = LENGTHS.unpack(chunks[0][: LENGTHS.size])
    text = chunks[0][LENGTHS.size :].rstrip(b" ")
    text = _padded(text[:-1] + b',"seal":"' + seal.hex().encode() + b'"}')
    return [LENGTHS.pack(len(text), body_size + len(seal)) + text, *chunks[1:], seal]


def payloads(frame: Frame) -> list[bytes]:
    """Return the payloads that :func:`pack_payloads` packed."""
    ends = accumulate(frame.head["sizes"], initial=0)
    body = frame.body
    return [bytes(body[start:end]) for start, end in pairwise(ends)]


def abouts(frame: Frame) -> list[About]:
    """Return which record each payload is from; empty if the frame does not say."""
    if not frame.head.get("told"):
        return []
    return [tuple(about) for about in json.loads(bytes(frame.body[sum(frame.head["sizes"]) :]))]


def _start(op: str, head: dict[str, Any], body_size: int) -> bytes:
    """The lengths and the head."""
    text = _padded(orjson.dumps({"op": op, **head}))
    return LENGTHS.pack(len(text), body_size) + text


def _padded(text: bytes) -> bytes:
    return text + b" " * (-len(text) % ALIGNMENT)


class Assembler:
    """Turns received bytes into frames without copying bodies. Write bytes into :meth:`space`, then call :meth:`wrote`.

    ``body_limit``: bytes of the largest body that is accepted.
    """

    _buffer: bytearray
    _left: memoryview
    _reads_lengths: bool

    def __init__(self, body_limit: int = BODY_LIMIT_BYTES) -> None:
        self._body_limit = body_limit
        self._head_size = 0
        self._size = 0
        self._expect(LENGTHS.size, reads_lengths=True)

    def space(self) -> memoryview:
        """Return where to write the next bytes; never empty."""
        return self._left

    def wrote(self, size: int) -> Frame | None:
        """Note that ``size`` bytes were written into :meth:`space`. Return the frame if it is now complete.

        :raises Garbage: the bytes are not a valid frame.
        """
        self._left = self._left[size:]
        if self._left:
            return None
        if len(self._buffer) < self._size:
            self._grow()
            return None
        if self._reads_lengths:
            head_size, body_size = LENGTHS.unpack(self._buffer)
            if not 0 < head_size <= HEAD_LIMIT_BYTES or body_size > self._body_limit:
                raise Garbage(f"a frame of {head_size} and {body_size} bytes")
            self._head_size = head_size
            self._expect(head_size + body_size, reads_lengths=False)
            return None
        whole = memoryview(self._buffer)
        self._expect(LENGTHS.size, reads_lengths=True)
        return _frame(whole[: self._head_size], whole[self._head_size :])

    def _expect(self, size: int, *, reads_lengths: bool) -> None:
        self._size = size
        self._buffer = bytearray(min(size, STEP_BYTES))
        self._left = memoryview(self._buffer)
        self._reads_lengths = reads_lengths

    def _grow(self) -> None:
        """Double the buffer; what has been received is copied."""
        held = len(self._buffer)
        larger = bytearray(min(self._size, 2 * held))
        larger[:held] = self._buffer
        self._buffer = larger
        self._left = memoryview(larger)[held:]


def _frame(text: memoryview, body: memoryview) -> Frame:
    try:
        head = orjson.loads(text)
    except orjson.JSONDecodeError:
        head = None
    op = head.pop("op", None) if isinstance(head, dict) else None
    if not isinstance(op, str):
        raise Garbage(f"an invalid head: {bytes(text[:40])!r}")
    seal = head.pop("seal", None)
    if seal is None:
        return Frame(op, head, body)
    end = len(body) - SEAL_BYTES
    given = bytes(body[max(0, end) :])
    if seal != given.hex() or len(given) != SEAL_BYTES:
        raise Garbage("a frame that does not end with its seal")
    return Frame(op, head, body[:end], given)


def receive(connection: socket.socket, assembler: Assembler) -> Frame | None:
    """Block until the next frame has been read, and return it; None at the end of the stream.

    :raises Garbage: the bytes are not a valid frame.
    """
    while True:
        size = connection.recv_into(assembler.space())
        if not size:
            return None
        if frame := assembler.wrote(size):
            return frame


def send(connection: socket.socket, chunks: Sequence[Any]) -> None:
    """Write a frame, blocking."""
    for chunk in chunks:
        connection.sendall(chunk)
