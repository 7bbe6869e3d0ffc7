"""Makes foreign text safe for a line that a person reads: control characters become visible and have no effect."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pipeline.errors import text_of

_ACTS = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
"""Control characters (C0, DEL, C1), line ends, characters that change direction or hide text, lone surrogates."""

_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def shown(text: str) -> str:
    """Return the text on one line, with control characters, direction marks and hidden characters escaped as Python
    would.
    """
    return _ACTS.sub(_escape, text) if not text.isascii() or not text.isprintable() else text


def shown_lines(text: str, indent: str = "    ") -> str:
    """As :func:`shown`, but keep line ends. Later lines start with ``indent``, so none can pass for a first line."""
    return f"\n{indent}".join(map(shown, text.split("\n")))


def as_text(value: object) -> str:
    """Return ``str(value)`` as :func:`shown`, shortened. Never raises."""
    return shown(text_of(value))


class Lines(str):
    """Text whose line ends are kept."""

    __slots__ = ()


def harmless(value: Any) -> Any:
    """Return ``value`` for JSON, each text in it as :func:`shown`: a terminal that prints the parsed text is safe,
    too.
    """
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
