"""Encodes the positions of a file's dead letters as a short text: a few bytes each, and one run for a whole aggregate.

The text is ``<sequence>:<subs>`` for each sequence number, joined by ``;``. Sequence numbers are hexadecimal; each but
the first is the distance from the one before. ``subs`` are single decimal numbers or runs ``a-b``, joined by ``,``;
``:0`` is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter

from pipeline.record import Position

MOST = 200_000
"""How many positions one text may stand for, so that a run of twelve characters cannot fill a reader's memory. A file's
dead letters are bounded in bytes (:mod:`pipeline.sinks.chain`), to about a tenth of this.
"""

MOST_EACH = 72
"""The most bytes that one position adds: its distance in hexadecimal, its sub-sequence number and separators."""

_GROUP = re.compile(r"([0-9a-f]{1,64})(?::([0-9,-]+))?")
_RUN = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10}))?")


def encoded(positions: Iterable[Position]) -> str:
    """Encode positions, which must be in rising order. Empty text for none."""
    groups, before = [], 0
    for sequence, group in groupby(positions, key=attrgetter("sequence")):
        subs = ",".join(_runs([position.sub for position in group]))
        groups.append(f"{sequence - before:x}" + ("" if subs == "0" else f":{subs}"))
        before = sequence
    return ";".join(groups)


def decoded(text: str) -> list[Position]:
    """Decode what :func:`encoded` returned.

    :raises ValueError: the text is anything else, or stands for more than :data:`MOST` positions.
    """
    found: list[Position] = []
    sequence = 0
    for group in text.split(";") if text else []:
        if (match := _GROUP.fullmatch(group)) is None:
            raise ValueError(f"{group[:40]!r} is not a list of positions")
        sequence += int(match[1], 16)
        for first, last in map(_ends, (match[2] or "0").split(",")):
            if last - first >= MOST - len(found):
                raise ValueError(f"more than {MOST} positions")
            found.extend(Position(sequence, sub) for sub in range(first, last + 1))
    if encoded(found) != text:
        raise ValueError("positions that are not in rising order")
    return found


class Size:
    """An upper bound, ``bytes``, of the length of the encoded text, kept while positions are added one by one."""

    def __init__(self) -> None:
        self.bytes = 0
        self._last = Position(0, -1)

    def add(self, position: Position) -> None:
        """Add the next position; it must be above the last one."""
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
        raise ValueError(f"{run[:40]!r} is not a run")
    return int(match[1]), int(match[2] or match[1])
