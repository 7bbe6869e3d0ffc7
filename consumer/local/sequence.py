"""Sequence numbers: decimals of 56 digits that rise within a shard, and from parents to children.

From the highest bit down: a 1, which makes every number 56 digits; the millisecond in which the shard was opened
(47 bits), which is later for a child than for its parents; the record's count within its shard (64 bits), 1 for the
first; the millisecond of arrival (44 bits); the shard's index in its stream (30 bits).
"""

from __future__ import annotations

from typing import NamedTuple

_TOP = 1 << 185
_OPENED_AT, _COUNT_AT, _ARRIVAL_AT = 138, 74, 30
_COUNT_MASK = (1 << 64) - 1
_INDEX_MASK = (1 << 30) - 1
_OPENED_MASK = (1 << 47) - 1


class Parts(NamedTuple):
    opened_ms: int
    nth: int
    """The record's count."""
    shard_index: int


def make(opened_ms: int, count: int, arrival_ms: int, shard_index: int) -> str:
    return str(
        _TOP | opened_ms << _OPENED_AT | count << _COUNT_AT | (arrival_ms & (1 << 44) - 1) << _ARRIVAL_AT | shard_index
    )


def parse(text: str) -> Parts | None:
    """The parts of a sequence number; ``None`` for a text that is none of ours."""
    if not (text.isascii() and text.isdigit() and len(text) <= 60):
        return None
    number = int(text)
    if number >> 185 != 1:
        return None
    return Parts(number >> _OPENED_AT & _OPENED_MASK, number >> _COUNT_AT & _COUNT_MASK, number & _INDEX_MASK)
