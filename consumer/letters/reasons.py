"""Reasons sorted: alike ones are counted together, whatever numbers and quoted texts they have. Pure."""

from __future__ import annotations

import re

LONGEST = 200
"""Characters of a reason that are looked at."""

_VARIES = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|\b0x[0-9a-fA-F]+\b|\d[\d.,:]*")


def sort_of(reason: str) -> str:
    """The first line of a reason, with ``…`` for each number and each quoted text."""
    first = reason.strip().partition("\n")[0][:LONGEST]
    return _VARIES.sub("…", first) or "no reason"
