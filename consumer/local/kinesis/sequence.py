"""Sequence numbers: 56 decimal digits that rise within a shard, and from parents to children.

Bits, high to low: 2 (4 bits), the shard's epoch in seconds (36), low nibble of the shard's index (4), position in the
shard (64), zero (8), arrival in seconds (36), the shard's index (32), 2 (4). It is the layout that kinesalite found in
AWS's own numbers. A child's epoch is above its parents', which puts all of its numbers above theirs.
"""

from __future__ import annotations

from typing import NamedTuple

LAST_POSITION = 2**63 - 1
"""The position in a closed shard's EndingSequenceNumber: above every record's."""

_VERSION = 2
_TOP_SHIFT, _EPOCH_SHIFT, _NIBBLE_SHIFT, _POSITION_SHIFT, _TIME_SHIFT, _INDEX_SHIFT = 184, 148, 144, 80, 36, 4


class Place(NamedTuple):
    """What a sequence number says: which shard of which epoch, and where in it. Records begin at position 1."""

    epoch_s: int
    shard_index: int
    position: int


def prefix(epoch_s: int, shard_index: int) -> int:
    """The part that all sequence numbers of a shard share; :func:`number` adds the rest."""
    return (
        _VERSION << _TOP_SHIFT
        | epoch_s << _EPOCH_SHIFT
        | (shard_index & 0xF) << _NIBBLE_SHIFT
        | shard_index << _INDEX_SHIFT
        | _VERSION
    )


def number(shard_prefix: int, position: int, at_s: int) -> str:
    return str(shard_prefix | position << _POSITION_SHIFT | at_s << _TIME_SHIFT)


def parse(text: str) -> Place:
    """Read a sequence number back; ``ValueError`` for what can never have been one."""
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
