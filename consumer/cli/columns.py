"""Widths of a table's columns on a screen. Pure.

A cell is wrapped between words only: an id that is broken over lines can be neither read nor copied.
"""

from __future__ import annotations

from collections.abc import Sequence

BETWEEN, EDGES = 3, 2
"""Characters between two columns, and at both edges of a table."""


def fitted(columns: Sequence[str], rows: Sequence[Sequence[str]], screen: int) -> list[int] | None:
    """Return the width of each column, such that no word is broken; None if the screen is too narrow for that."""
    cells = [[name, *(row[place] for row in rows)] for place, name in enumerate(columns)]
    least = [max(_longest_word(text) for text in column) for column in cells]
    wanted = [max(map(len, column)) for column in cells]
    room = screen - EDGES - BETWEEN * (len(columns) - 1) - sum(least)
    if room < 0:
        return None
    widths = list(least)
    by_need = sorted(range(len(columns)), key=lambda place: wanted[place] - least[place])
    for count, place in enumerate(by_need):
        more = min(wanted[place] - least[place], room // (len(by_need) - count))
        widths[place] += more
        room -= more
    return widths


def vertical(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines that show each row as ``name: value`` lines, whole, with an empty line between two rows."""
    longest = max(map(len, columns), default=0) + 1
    lines: list[str] = []
    for row in rows:
        lines += [""] if lines else []
        lines += [f"{f'{name}:':<{longest}} {text}".rstrip() for name, text in zip(columns, row, strict=True) if text]
    return lines


def _longest_word(text: str) -> int:
    return max(map(len, text.split()), default=0)
