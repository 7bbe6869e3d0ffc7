"""Keys of a table's files and of their dead letters: by day, by shard, and by the position where a file begins."""

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
"""The key of a table's file. Anything else below a table's URL is a stray. ``list``: the stream's creation time and the
shard.
"""

REDRIVEN_FILE = re.compile(
    r"(?P<day_of_list>dt=(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})/(?P<list>[0-9]+-(?P<shard>[A-Za-z0-9_.-]+)))"
    r"-redriven-(?P<number>[0-9]{6})\.parquet"
)
"""A file with the rows of records that were dead letters of that shard and day (:mod:`pipeline.table.redriven`)."""

LETTERS = re.compile(
    TABLE_FILE.pattern.removesuffix(r"\.parquet")
    + r"(?:-(?P<writer>[A-Za-z0-9.]+))?(?:~(?P<sink>[A-Za-z0-9_.-]+))?\.jsonl"
)
"""The key of an object of dead letters. ``writer``: only if another object has the plain name. ``sink``: only for a
letter of a sink that could not store a row.
"""

STAGED = ".staged"
"""Appended to the dead letters' URL, for staged copies: people who read dead letters do not see them."""

REDRIVES = ".redrives"
"""Appended to the dead letters' URL, for notes of letters that failed again."""

SUSPECTS = ".suspects"
"""Appended to the dead letters' URL, for notes of tries that may crash the task."""

ASIDE = ".penstock"
"""Appended to the path of a folder that is a store, for files that are not complete yet
(:mod:`pipeline.stores.folder`).
"""


@dataclass(frozen=True, slots=True)
class Names:
    """Makes the keys of one shard's files."""

    shard: Shard

    def day(self, arrived_ms: int) -> str:
        """Return the prefix that the shard's files of one day (UTC) share."""
        return self._of(datetime.fromtimestamp(arrived_ms / 1000, UTC).date())

    def key(self, first: Record) -> str:
        """Return the key of the file that begins with this record."""
        return f"{self.day(first.arrived_ms)}{place_of(first.position)}.parquet"

    def day_after(self, key: str) -> str:
        """Return the prefix of the shard's files of the day after that of ``key``."""
        day = key.removeprefix("dt=").partition("/")[0]
        return self._of(date.fromisoformat(day) + timedelta(days=1))

    def _of(self, day: date) -> str:
        return f"dt={day.isoformat()}/{self.shard.stream_created_s}-{self.shard.shard_id}-"


def place_of(position: Position) -> str:
    """Return a position as a part of a key. Keys sort as positions do."""
    return f"{position.sequence:0{SEQUENCE_DIGITS}}-{position.sub:0{SUB_DIGITS}}"


def day_of(key: str) -> str:
    """Return the prefix that the shard's files of this file's day share."""
    return f"{key.rsplit('-', 2)[0]}-"


def first_of(key: str) -> Position:
    """Return the position that a file begins with. ``key`` must match :data:`TABLE_FILE`."""
    _, sequence, sub = key.removesuffix(".parquet").rsplit("-", 2)
    return Position(int(sequence), int(sub))


def letters_key(key: str) -> str:
    """Return the key of a file's dead letters, relative to the root of the dead letters."""
    return f"{key.removesuffix('.parquet')}.jsonl"


def letters_apart(key: str, writer: str) -> str:
    """Return the key for dead letters whose plain key is taken by another object."""
    return f"{key.removesuffix('.jsonl')}-{writer}.jsonl"


def of_day(keys: Iterable[str], day: str) -> list[str]:
    """Keep the table's files, in their order, of keys that begin with ``day``; strays are left out."""
    ending = re.compile(rf"[0-9]{{{SEQUENCE_DIGITS}}}-[0-9]{{{SUB_DIGITS}}}\.parquet")
    return sorted(key for key in keys if key.startswith(day) and ending.fullmatch(key, len(day)))


def is_day(text: str) -> bool:
    """Return whether the text is an existing day in the form of the keys, ``YYYY-MM-DD``."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
