"""Dead letters that are a part of a table's commits, and no part of its files.

The lines of a file's dead letters are staged whole, under the id of its writer, before the file is committed; the file
names their writer, number, hash and positions. The object that people read is a copy of what the committed file names.
It is written before the file's range counts as durable, or by whoever finds the file after a crash. A staged object
that no file names means nothing.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable

from pipeline.errors import Fatal
from pipeline.stores.base import Metadata, ObjectStore, TooLarge
from pipeline.table.footer import DEAD, LETTERS_SHA256, WRITER
from pipeline.table.names import STAGED, letters_apart, letters_key

MOST_BYTES = 128 * 1024 * 1024
"""No object of dead letters has more: about 8 MiB, and the largest record in base64 with its traceback."""

log = logging.getLogger("sink.parquet")


def sha256_of(lines: bytes) -> str:
    """Empty for no lines."""
    return hashlib.sha256(lines).hexdigest() if lines else ""


def apart_key(key: str, writer: str) -> str:
    """Where the dead letters of a file lie whose plain name another table has taken."""
    return letters_apart(letters_key(key), writer)


class Ledger:
    """One table's dead letters: ``staged`` and ``final`` are two stores, both outside the table. Calls block."""

    def __init__(self, final: ObjectStore, staged: ObjectStore) -> None:
        self.final = final
        self.staged = staged

    @classmethod
    def at(cls, url: str, store: Callable[[str], ObjectStore]) -> Ledger:
        """The dead letters at this URL, staged beside it; ``store`` opens one."""
        return cls(store(url), store(f"{url.rstrip('/')}{STAGED}"))

    def check(self) -> None:
        self.final.check()
        self.staged.check()

    def stage(self, writer: str, lines: bytes) -> None:
        """Before the file is committed. May be repeated: a writer id is of one intent to write."""
        if lines:
            self.staged.put_new(staged_key(writer), lines, {})

    def finish(self, key: str, writer: str, lines: bytes) -> None:
        """After it is: ``lines`` are what that writer staged. Once, however often it is called."""
        if lines and not self.final.put_new(letters_key(key), lines, {}) and self._taken(letters_key(key), lines):
            self.final.put_new(apart_key(key, writer), lines, {})

    def complete(self, key: str, metadata: Metadata) -> bool:
        """Another writer's file: whether its dead letters had to be written, since that writer ended too early.

        Raises ``Fatal`` if what it staged is neither there nor written.
        """
        if self.is_complete(key, metadata):
            return False
        lines = read_letters(self.staged, staged_key(metadata[WRITER]), otherwise=b"too large")
        if lines == b"":
            log.error("the %s dead letters of %s are given up: they were staged and are empty", metadata[DEAD], key)
            return False
        if lines is None or sha256_of(lines) != metadata[LETTERS_SHA256]:
            what = "gone" if lines is None else "changed"
            raise Fatal(
                f"the {metadata[DEAD]} dead letters of {key} were not written before its writer ended, and "
                f"{staged_key(metadata[WRITER])} beside them (…{STAGED}) is {what}. Restore it, or put an empty object "
                "there to give them up"
            )
        self.finish(key, metadata[WRITER], lines)
        return True

    def is_complete(self, key: str, metadata: Metadata) -> bool:
        """Whether the dead letters that the file names, if any, are where people read them."""
        named = metadata[LETTERS_SHA256]
        keys = (letters_key(key), apart_key(key, metadata[WRITER]))
        return not named or any(sha256_of(read_letters(self.final, each) or b"") == named for each in keys)

    def _taken(self, name: str, lines: bytes) -> bool:
        """By another table that has its dead letters in the same place."""
        return read_letters(self.final, name) != lines


def read_letters(store: ObjectStore, key: str, otherwise: bytes | None = None) -> bytes | None:
    """An object of dead letters; None if there is none, ``otherwise`` if it is larger than any."""
    try:
        return store.get(key, MOST_BYTES)
    except TooLarge:
        return otherwise


def staged_key(writer: str) -> str:
    return f"{writer}.jsonl"
