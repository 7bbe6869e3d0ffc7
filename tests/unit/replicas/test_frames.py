"""Frames: complete, in pieces, and garbage."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import plain
from pipeline.model_process.frames import (
    ALIGNMENT,
    LENGTHS,
    Assembler,
    Frame,
    Garbage,
    abouts,
    pack,
    pack_payloads,
    payloads,
)
from pipeline.record import Payload, Record


def assembled(data: bytes, sizes: list[int]) -> list[Frame]:
    """The frames in ``data``, fed in pieces of at most ``sizes``, repeatedly."""
    assembler = Assembler()
    frames = []
    turn = 0
    while data:
        space = assembler.space()
        piece = data[: min(len(space), sizes[turn % len(sizes)])]
        space[: len(piece)] = piece
        if frame := assembler.wrote(len(piece)):
            frames.append(frame)
        data = data[len(piece) :]
        turn += 1
    return frames


@given(st.lists(st.lists(st.binary(max_size=40)), max_size=4), st.lists(st.integers(1, 100), min_size=1))
def test_frames_come_out_as_they_went_in(batches: list[list[bytes]], sizes: list[int]) -> None:
    data = b"".join(b"".join(pack_payloads("predict", batch)) for batch in batches)
    frames = assembled(data, sizes)
    assert [(frame.op, payloads(frame)) for frame in frames] == [("predict", batch) for batch in batches]


KEYS = st.none() | st.text(st.characters(exclude_categories=[]), max_size=5)


@given(st.lists(st.tuples(st.binary(max_size=20), KEYS, st.integers(0, 2**63)), min_size=1, max_size=5))
def test_payloads_name_their_record_for_any_key(given: list[tuple[bytes, str | None, int]]) -> None:
    records = [Record("shard", data, key, str(10**55 + at), at % 7, at) for data, key, at in given]
    [frame] = assembled(b"".join(pack_payloads("predict", list(map(Payload.of, records)))), [1000])
    assert payloads(frame) == [data for data, _, _ in given]
    assert abouts(frame) == [(r.shard_id, r.partition_key, r.sequence, r.sub, r.arrived_ms) for r in records]


def test_plain_payloads_say_nothing() -> None:
    [frame] = assembled(b"".join(pack_payloads("predict", [b"a", b"b"])), [1000])
    assert (abouts(frame), frame.head) == ([], {"sizes": [1, 1]})


def test_bodies_are_aligned() -> None:
    head, _ = pack("rows", {"faults": []}, [b"body"])
    assert (len(head) - LENGTHS.size) % ALIGNMENT == 0


@pytest.mark.parametrize(
    "data",
    [
        LENGTHS.pack(0, 0),
        b"not a frame!",
        LENGTHS.pack(2**31, 0),
        LENGTHS.pack(4, 0) + b"[1,]",
        LENGTHS.pack(4, 0) + b"  []",
        LENGTHS.pack(4, 0) + b'"op"',
        LENGTHS.pack(4, 0) + b"  {}",
    ],
)
def test_garbage_is_distinguished_from_frames(data: bytes) -> None:
    with pytest.raises(Garbage):
        assembled(data, [len(data)])


@given(st.binary(max_size=200))
def test_no_bytes_are_more_than_garbage(data: bytes) -> None:
    with contextlib.suppress(Garbage):
        assert all(isinstance(frame.op, str) for frame in assembled(data, [7]))


@given(st.text(st.characters(exclude_categories=[])), st.integers(10, 100))
def test_any_text_can_be_sent(text: str, limit: int) -> None:
    sent = plain(text, limit)
    (head,) = pack("failed", {"reason": sent})
    (frame,) = assembled(head, [1000])
    assert frame.head["reason"] == sent


def test_long_texts_lose_their_middle() -> None:
    assert plain("a" * 50 + "b" * 50, 20) == "aaaaaaaaaa … 80 characters … bbbbbbbbbb"
    assert plain("a" * 20, 20) == "a" * 20
