"""How a table's files and their dead letters are called: by shard, by day, and by where a file begins."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from pipeline.record import Position, Record, Shard

SEQUENCE_DIGITS, SUB_DIGITS = 56, 10

TABLE_FILE = re.compile(
    r"dt=(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})/(?P<list>[0-9]+-(?P<shard>[A-Za-z0-9_.-]+))"
    rf"-(?P<sequence>[0-9]{{{SEQUENCE_DIGITS}}})-(?P<sub>[0-9]{{{SUB_DIGITS}}})\.parquet"
)
"""A table's file: everything else below a table's URL is a stray. ``list``: the stream's creation and the shard."""


LETTERS = re.compile(
    TABLE_FILE.pattern.removesuffix(r"\.parquet")
    + r"(?:-(?P<writer>[A-Za-z0-9.]+))?(?:~(?P<sink>[A-Za-z0-9_.-]+))?\.jsonl"
)
"""Dead letters: of a file's range; ``writer``: whose plain name was taken; ``sink``: of rows that it cannot carry."""

STAGED = ".staged"
"""Put behind the dead letters' URL: outside of what people read there."""

SUSPECTS = ".suspects"
"""Put behind the dead letters' URL, for notes of tries that may take the task down."""

ASIDE = ".penstock"
"""Put behind the path of a folder that is a store, for files that are not whole yet (:mod:`pipeline.stores.folder`)."""


@dataclass(frozen=True, slots=True)
class Names:
    """How a shard's files are called."""

    shard: Shard

    def day(self, arrived_ms: int) -> str:
        """The prefix of the shard's files of one day (UTC)."""
        return self._of(datetime.fromtimestamp(arrived_ms / 1000, UTC).date())

    def key(self, first: Record) -> str:
        """The file that begins with this record."""
        return f"{self.day(first.arrived_ms)}{place_of(first.position)}.parquet"

    def day_after(self, key: str) -> str:
        """The prefix of the shard's files of the day after this file's."""
        day = key.removeprefix("dt=").partition("/")[0]
        return self._of(date.fromisoformat(day) + timedelta(days=1))

    def _of(self, day: date) -> str:
        return f"dt={day.isoformat()}/{self.shard.stream_created_s}-{self.shard.shard_id}-"


def place_of(position: Position) -> str:
    """A position as a part of a key: sorts as positions do."""
    return f"{position.sequence:0{SEQUENCE_DIGITS}}-{position.sub:0{SUB_DIGITS}}"


def day_of(key: str) -> str:
    """The prefix that the shard's files of this file's day share."""
    return f"{key.rsplit('-', 2)[0]}-"


def first_of(key: str) -> Position:
    """The position that a file begins with."""
    _, sequence, sub = key.removesuffix(".parquet").rsplit("-", 2)
    return Position(int(sequence), int(sub))


def letters_key(key: str) -> str:
    """Where the dead letters of a file lie, below their own root."""
    return f"{key.removesuffix('.parquet')}.jsonl"


def letters_apart(key: str, writer: str) -> str:
    """Where dead letters lie whose plain name, ``key``, is taken by something else."""
    return f"{key.removesuffix('.jsonl')}-{writer}.jsonl"


def of_day(keys: Iterable[str], day: str) -> list[str]:
    """Of keys that begin with ``day``, the table's files, in their order; strays are left out."""
    ending = re.compile(rf"[0-9]{{{SEQUENCE_DIGITS}}}-[0-9]{{{SUB_DIGITS}}}\.parquet")
    return sorted(key for key in keys if key.startswith(day) and ending.fullmatch(key, len(day)))


def is_day(text: str) -> bool:
    """Whether it is a day that there is, as keys have it."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
