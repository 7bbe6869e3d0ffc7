"""Groups similar reasons: those that differ only in numbers and quoted text are counted together. Pure."""

from __future__ import annotations

import re

LONGEST = 200
"""Characters of a reason that are compared."""

_VARIES = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|\b0x[0-9a-fA-F]+\b|\d[\d.,:]*")


def sort_of(reason: str) -> str:
    """Return the first line of a reason, with ``…`` for each number and each quoted text."""
    first = reason.strip().partition("\n")[0][:LONGEST]
    return _VARIES.sub("…", first) or "no reason"
