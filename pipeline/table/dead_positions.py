"""The positions of a file's dead letters as a short text: a few bytes for each, and runs of an aggregate in one piece.

``<sequence>:<subs>`` for each sequence number, joined by ``;``. Sequence numbers are hexadecimal, each but the first as
the distance from the one before; ``subs`` are decimal runs ``a-b`` or single ones, joined by ``,``; ``:0`` is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter

from pipeline.record import Position

MOST = 200_000
"""Positions that one text may stand for: a run of twelve characters must not cost a reader its memory.
A file's dead letters are bounded in bytes (``pipeline.sinks.chain``), to about a tenth of this.
"""

MOST_EACH = 72
"""What one position adds at most: its distance in hexadecimal, its sub-sequence number, marks."""

_GROUP = re.compile(r"([0-9a-f]{1,64})(?::([0-9,-]+))?")
_RUN = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10}))?")


def encoded(positions: Iterable[Position]) -> str:
    """Of rising positions."""
    groups, before = [], 0
    for sequence, group in groupby(positions, key=attrgetter("sequence")):
        subs = ",".join(_runs([position.sub for position in group]))
        groups.append(f"{sequence - before:x}" + ("" if subs == "0" else f":{subs}"))
        before = sequence
    return ";".join(groups)


def decoded(text: str) -> list[Position]:
    """What :func:`encoded` was given. Raises ``ValueError`` on any other text."""
    found: list[Position] = []
    sequence = 0
    for group in text.split(";") if text else []:
        if (match := _GROUP.fullmatch(group)) is None:
            raise ValueError(f"{group[:40]!r} are no positions")
        sequence += int(match[1], 16)
        for first, last in map(_ends, (match[2] or "0").split(",")):
            if last - first >= MOST - len(found):
                raise ValueError(f"more than {MOST} positions")
            found.extend(Position(sequence, sub) for sub in range(first, last + 1))
    if encoded(found) != text:
        raise ValueError("positions that do not rise")
    return found


class Size:
    """How long the text of positions is at most, as they are added one by one."""

    def __init__(self) -> None:
        self.bytes = 0
        self._last = Position(0, -1)

    def add(self, position: Position) -> None:
        if position.sequence != self._last.sequence:
            self.bytes += len(f"{position.sequence - self._last.sequence:x}") + 24
        elif position.sub != self._last.sub + 1:
            self.bytes += 2 * len(str(position.sub)) + 2
        elif len(str(position.sub)) > len(str(self._last.sub)):
            self.bytes += 1
        self._last = position


def _runs(subs: list[int]) -> Iterator[str]:
    first = last = subs[0]
    for sub in subs[1:]:
        if sub != last + 1:
            yield _run(first, last)
            first = sub
        last = sub
    yield _run(first, last)


def _run(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _ends(run: str) -> tuple[int, int]:
    if (match := _RUN.fullmatch(run)) is None:
        raise ValueError(f"{run[:40]!r} is no run")
    return int(match[1]), int(match[2] or match[1])
