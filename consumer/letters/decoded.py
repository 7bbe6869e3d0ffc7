"""Decodes a payload as far as possible for a person: compression, aggregates, JSON, text. Pure."""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass, field

import orjson

from pipeline import kpl
from pipeline.errors import counted

MOST_BYTES = 16 * 1024 * 1024
"""Maximum bytes of decompressed data, so that a small payload cannot fill the memory."""

SHOWN_BYTES = 256
"""Maximum bytes of binary data that are shown."""

SHOWN_TEXT = 4_000
"""Maximum characters of a text."""

ROW = 16
"""Bytes on a line of a hexadecimal dump."""


@dataclass(slots=True)
class Decoded:
    """``steps``: the formats of the payload, from the outside in. ``text``: the decoded content, as lines."""

    steps: list[str] = field(default_factory=list)
    text: str = ""


def decoded(payload: bytes) -> Decoded:
    """Decode a payload. Never raises."""
    found = Decoded()
    while (inner := _uncompressed(payload)) is not None:
        name, payload = inner
        found.steps.append(f"{name}, {counted(len(payload), 'byte')} uncompressed")
        if len(found.steps) > 3:
            break
    if payload.startswith(kpl.MAGIC):
        found.steps.append("an aggregate of the KPL")
    what, found.text = _shown(payload)
    found.steps.append(what)
    return found


def _uncompressed(data: bytes) -> tuple[str, bytes] | None:
    try:
        if data.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
                return "gzip", file.read(MOST_BYTES)
        if data[:1] == b"\x78" and len(data) > 2 and int.from_bytes(data[:2], "big") % 31 == 0:
            return "zlib", zlib.decompressobj().decompress(data, MOST_BYTES)
    except (OSError, EOFError, zlib.error):
        return None
    return None


def _shown(data: bytes) -> tuple[str, str]:
    if not data:
        return "empty", ""
    try:
        value = orjson.loads(data)
    except ValueError:
        pass
    else:
        return "JSON", _cut(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"no UTF-8 text (byte {error.start})", dump(data)
    if any(ord(each) < ord(" ") and each not in "\t\r\n" for each in text):
        return "text with control characters", dump(data)
    return "text, and no JSON", _cut(text)


def dump(data: bytes) -> str:
    """Return the first bytes in hexadecimal and, where possible, as ASCII."""
    lines = []
    for at in range(0, min(len(data), SHOWN_BYTES), ROW):
        row = data[at : at + ROW]
        plain = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{at:08x}  {row.hex(' '):<{3 * ROW}} {plain}")
    more = len(data) - SHOWN_BYTES
    return "\n".join([*lines, *([f"… {counted(more, 'byte')} more"] if more > 0 else [])])


def _cut(text: str) -> str:
    return (
        text
        if len(text) <= SHOWN_TEXT
        else f"{text[:SHOWN_TEXT]}\n… {counted(len(text) - SHOWN_TEXT, 'character')} more"
    )
