"""Text of others, made fit for a line that a person reads: what it says is seen, and it does nothing else."""

from __future__ import annotations

import re

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


def in_json(line: str) -> str:
    """JSON that says the same, and is as harmless to look at."""
    return _ACTS.sub(_escape_json, line) if not line.isascii() or not line.isprintable() else line


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    short = _SHORT.get(character)
    return short or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


def _escape_json(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
