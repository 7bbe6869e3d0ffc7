"""Text of others, made fit for a line that a person reads: what it says is seen, and it does nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pipeline.errors import text_of

_ACTS = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
"""Controls (C0, DEL, C1), ends of lines, marks that turn or hide what follows, lone surrogates."""

_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def shown(text: str) -> str:
    """On one line, with nothing in it that moves a cursor, turns the direction, or hides; as Python would write it."""
    return _ACTS.sub(_escape, text) if not text.isascii() or not text.isprintable() else text


def shown_lines(text: str, indent: str = "    ") -> str:
    """As :func:`shown`, and lines stay lines: later ones begin with ``indent``, so none passes for a first."""
    return f"\n{indent}".join(map(shown, text.split("\n")))


def as_text(value: object) -> str:
    """What any value says of itself, :func:`shown`; cut short if that is long."""
    return shown(text_of(value))


class Lines(str):
    """Text of which lines stay lines."""

    __slots__ = ()


def harmless(value: Any) -> Any:
    """``value`` for JSON: each text in it as :func:`shown`, so that whoever prints what was read is safe, too."""
    if isinstance(value, Lines):
        return shown_lines(value)
    if isinstance(value, str):
        return shown(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {as_text(key): harmless(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [harmless(each) for each in value]
    return as_text(value)


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    short = _SHORT.get(character)
    return short or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
