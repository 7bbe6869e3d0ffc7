"""A payload shown to a person: something is shown for any payload, and not too much."""

from __future__ import annotations

import gzip
import io
import zlib

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.letters import decoded as module
from consumer.letters.decoded import decoded
from consumer.letters.reasons import sort_of


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600), st.sampled_from([lambda data: data, gzip.compress, zlib.compress]))
def test_any_payload_is_shown_in_few_lines(payload: bytes, packed: object) -> None:
    assert callable(packed)
    found = decoded(packed(payload))
    assert found.steps
    assert len(found.text) <= 4_100


@pytest.mark.parametrize(
    ("payload", "steps", "text"),
    [
        (b'{"n": 1}', ["JSON"], '{\n  "n": 1\n}'),
        (b"hello", ["text, and no JSON"], "hello"),
        (b"", ["empty"], ""),
        (gzip.compress(b"hello", mtime=0), ["gzip, 5 bytes uncompressed", "text, and no JSON"], "hello"),
        (zlib.compress(orjson.dumps(5)), ["zlib, 1 byte uncompressed", "JSON"], "5"),
        (b"\xffabc", ["no UTF-8 text (byte 0)"], f"00000000  {'ff 61 62 63':<48} .abc"),
        (b"\x1f\x8bno gzip", ["no UTF-8 text (byte 1)"], f"00000000  {'1f 8b 6e 6f 20 67 7a 69 70':<48} ..no gzip"),
    ],
)
def test_a_payload_is_decoded_step_by_step(payload: bytes, steps: list[str], text: str) -> None:
    found = decoded(payload)
    assert (found.steps, found.text) == (steps, text)


def test_a_bomb_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1_000)
    bomb = io.BytesIO()
    with gzip.GzipFile(fileobj=bomb, mode="wb") as file:
        file.write(b"a" * 100_000)
    assert decoded(bomb.getvalue()).steps[0] == "gzip, 1,000 bytes uncompressed"
    assert decoded(zlib.compress(b"a" * 100_000)).steps[0] == "zlib, 1,000 bytes uncompressed"


@pytest.mark.parametrize(
    ("reason", "sort"),
    [
        ("timed out after 3.5 s", "timed out after … s"),
        ("KeyError: 'user-17'", "KeyError: …"),
        ('no field "a"\nmore', "no field …"),
        ("at 0x7f00aa", "at …"),
        ("", "no reason"),
    ],
)
def test_alike_reasons_are_one_sort(reason: str, sort: str) -> None:
    assert sort_of(reason) == sort
