"""Sequence numbers: 56 decimal digits that increase within a shard, and from parents to children.

Bits, high to low: 2 (4 bits), the shard's epoch in seconds (36), the low four bits of the shard's index (4), position
in the shard (64), zero (8), arrival in seconds (36), the shard's index (32), 2 (4). kinesalite found this layout in
AWS's numbers. The epoch of a child is larger than that of its parents, and so are all its numbers.
"""

from __future__ import annotations

from typing import NamedTuple

LAST_POSITION = 2**63 - 1
"""The position in the EndingSequenceNumber of a closed shard. It is above that of every record."""

_VERSION = 2
_TOP_SHIFT, _EPOCH_SHIFT, _NIBBLE_SHIFT, _POSITION_SHIFT, _TIME_SHIFT, _INDEX_SHIFT = 184, 148, 144, 80, 36, 4


class Place(NamedTuple):
    """The parts of a sequence number: the shard, its epoch, and the position of the record, from 1."""

    epoch_s: int
    shard_index: int
    position: int


def prefix(epoch_s: int, shard_index: int) -> int:
    """Return the bits that all sequence numbers of a shard share, for :func:`number`."""
    return (
        _VERSION << _TOP_SHIFT
        | epoch_s << _EPOCH_SHIFT
        | (shard_index & 0xF) << _NIBBLE_SHIFT
        | shard_index << _INDEX_SHIFT
        | _VERSION
    )


def number(shard_prefix: int, position: int, at_s: int) -> str:
    """Return the sequence number of a position in a shard. ``at_s`` is the arrival time in seconds since the epoch."""
    return str(shard_prefix | position << _POSITION_SHIFT | at_s << _TIME_SHIFT)


def parse(text: str) -> Place:
    """Parse a sequence number.

    :raises ValueError: if the text does not have the layout of one.
    """
    value = int(text)
    index = value >> _INDEX_SHIFT & 0xFFFFFFFF
    whole = (
        value >> _TOP_SHIFT == _VERSION
        and value & 0xF == _VERSION
        and value >> _NIBBLE_SHIFT & 0xF == index & 0xF
        and value >> 72 & 0xFF == 0
    )
    if not whole:
        raise ValueError(f"{text} is not a sequence number")
    return Place(value >> _EPOCH_SHIFT & 0xFFFFFFFFF, index, value >> _POSITION_SHIFT & 0xFFFFFFFFFFFFFFFF)
