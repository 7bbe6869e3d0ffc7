"""Makes a file's dead letters a part of the file's commit, although they are not in the file.

Before a file is committed, the lines of its dead letters are staged as one object under the id of its writer. The file
names the writer and the letters' number, hash and positions. The object that people read is a copy of what the
committed file names. The writer makes the copy before the file's range counts as durable; after a crash, the next
reader of the file makes it. A staged object that no file references is unused.
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
"""The largest object of dead letters, in bytes: about 8 MiB, plus the largest record in base64 with its traceback."""

log = logging.getLogger("sink.parquet")


def sha256_of(lines: bytes) -> str:
    """Return the lines' SHA-256 in hexadecimal; an empty text for no lines."""
    return hashlib.sha256(lines).hexdigest() if lines else ""


def apart_key(key: str, writer: str) -> str:
    """Return the key of a file's dead letters if another table has taken the plain key."""
    return letters_apart(letters_key(key), writer)


class Ledger:
    """One table's dead letters. ``staged`` and ``final`` are two stores, both outside the table. Calls block.

    Every method may raise :class:`Retryable` or :class:`Denied`.
    """

    def __init__(self, final: ObjectStore, staged: ObjectStore) -> None:
        self.final = final
        self.staged = staged

    @classmethod
    def at(cls, url: str, store: Callable[[str], ObjectStore]) -> Ledger:
        """Open the dead letters at this URL, and the staged ones next to it. ``store`` opens a store by its URL."""
        return cls(store(url), store(f"{url.rstrip('/')}{STAGED}"))

    def check(self) -> None:
        """Check that both stores can be read and written (:meth:`ObjectStore.check`)."""
        self.final.check()
        self.staged.check()

    def stage(self, writer: str, lines: bytes) -> None:
        """Stage the lines before the file is committed. May be repeated: a writer id stands for one intent to write."""
        if lines:
            self.staged.put_new(staged_key(writer), lines, {})

    def finish(self, key: str, writer: str, lines: bytes) -> None:
        """Write the object that people read, after the file is committed. ``lines`` are what the writer staged.
        Idempotent.
        """
        if lines and not self.final.put_new(letters_key(key), lines, {}) and self._taken(letters_key(key), lines):
            self.final.put_new(apart_key(key, writer), lines, {})

    def complete(self, key: str, metadata: Metadata) -> bool:
        """Complete the dead letters of another writer's file. Return whether they had to be written.

        :raises Fatal: the writer ended too early, and its staged object is gone or changed.
        """
        if self.is_complete(key, metadata):
            return False
        lines = read_letters(self.staged, staged_key(metadata[WRITER]), otherwise=b"too large")
        if lines == b"":
            log.error("the %s dead letters of %s are lost: their staged object is empty", metadata[DEAD], key)
            return False
        if lines is None or sha256_of(lines) != metadata[LETTERS_SHA256]:
            what = "gone" if lines is None else "changed"
            raise Fatal(
                f"the {metadata[DEAD]} dead letters of {key} were not written before its writer ended, and "
                f"{staged_key(metadata[WRITER])} in …{STAGED} is {what}. Restore it, or put an empty object there to "
                "give up these dead letters"
            )
        self.finish(key, metadata[WRITER], lines)
        return True

    def is_complete(self, key: str, metadata: Metadata) -> bool:
        """Return whether the dead letters that the file names, if any, are where people read them."""
        named = metadata[LETTERS_SHA256]
        keys = (letters_key(key), apart_key(key, metadata[WRITER]))
        return not named or any(sha256_of(read_letters(self.final, each) or b"") == named for each in keys)

    def _taken(self, name: str, lines: bytes) -> bool:
        """Whether another table's dead letters lie at this key."""
        return read_letters(self.final, name) != lines


def read_letters(store: ObjectStore, key: str, otherwise: bytes | None = None) -> bytes | None:
    """Read an object of dead letters. None if there is none; ``otherwise`` if it is larger than :data:`MOST_BYTES`."""
    try:
        return store.get(key, MOST_BYTES)
    except TooLarge:
        return otherwise


def staged_key(writer: str) -> str:
    """Return the key of a writer's staged dead letters."""
    return f"{writer}.jsonl"
