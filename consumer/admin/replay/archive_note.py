"""Notes how many records of an archive are on a stream, and their hash, in a file in the working directory.

An interrupted run continues after them if the archive still begins with them; the rest of the archive may have changed.
The note stays when all of them are put, so that the same command does not put them twice. A run that is killed, or that
is interrupted twice, puts the records again that were put after its last note.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import RefusedError, UserError

if TYPE_CHECKING:
    from consumer.aws.put import PutEntry


class Seen:
    """How many records were read from an archive's begin, and the hash of their payloads."""

    def __init__(self) -> None:
        self.records = 0
        self._hash = hashlib.sha256()

    def add(self, entry: PutEntry) -> None:
        """Count the next record."""
        self.records += 1
        self._hash.update(len(entry.data).to_bytes(8, "big"))
        self._hash.update(entry.data)

    @property
    def sha256(self) -> str:
        """Of all of them."""
        return self._hash.hexdigest()


class ArchiveNote:
    """The note of one archive (``source``), one stream, and ``how`` payloads are made. ``done``: records that were put.
    ``finished_at``: when all of them were; None: they are not.
    """

    def __init__(self, folder: Path, source: str, stream: str, how: Iterable[str]) -> None:
        identity = json.dumps([source, stream, *how])
        self.path = folder / f"penstock-replay-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.progress"
        self.done, self._sha256, self.finished_at = self._read()

    def must_be(self, seen: Seen) -> None:
        """Check the archive against the note.

        :raises RefusedError: the archive does not begin with the records that were put.
        """
        if self.done and (seen.records, seen.sha256) != (self.done, self._sha256):
            all_of_it = "give --again" if self.finished_at else "delete the file"
            raise RefusedError(
                f"{self.path} says that the stream has {self.done:,} records of this archive, and the archive "
                f"begins with other records now. Restore the archive to continue, or {all_of_it} to put all of it"
            )

    def passed(self, seen: Seen, *, finished: bool = False) -> None:
        """Note the records that have been put."""
        self.done, self._sha256 = seen.records, seen.sha256
        self.finished_at = datetime.now(UTC).isoformat(timespec="seconds") if finished else None
        written = self.path.with_suffix(".written")
        said = {"records": self.done, "sha256": self._sha256, "finished_at": self.finished_at}
        written.write_text(json.dumps(said))
        written.replace(self.path)  # a note is whole, or the one before

    def forget_finished(self) -> None:
        """Begin again if all records were put. What is not finished continues."""
        if self.finished_at is not None:
            self.done, self._sha256, self.finished_at = 0, "", None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the note against a second run, and read it again, since another may have ended in the meantime.

        :raises RefusedError: another run holds it.
        """
        with self.path.with_suffix(".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RefusedError(
                    f"another run is already putting this archive (lock file: {self.path.with_suffix('.lock')}). Wait "
                    "until it has ended"
                ) from None
            self.done, self._sha256, self.finished_at = self._read()
            yield

    def _read(self) -> tuple[int, str, str | None]:
        if not self.path.exists():
            return 0, "", None
        try:
            said = json.loads(self.path.read_text())
            return int(said["records"]), str(said["sha256"]), said["finished_at"]
        except (ValueError, TypeError, KeyError):
            raise UserError(f"{self.path} is not a note of a replay. Delete it to put all records again") from None


class StopBetween:
    """Makes Ctrl-C wait until records that are on their way are put and noted. A second one does not wait.

    ``told`` is called when it waits. ``exact``: nothing is on its way.
    """

    def __init__(self, told: Callable[[], object], *, sleep: Callable[[float], object] = time.sleep) -> None:
        self.exact = True
        self._asked = False
        self._told = told
        self._sleep = sleep

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Take SIGINT meanwhile."""
        before = signal.signal(signal.SIGINT, self._ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Records are on their way. Raises ``KeyboardInterrupt`` after them if it was asked meanwhile."""
        self.exact = False
        yield
        self.exact = True
        if self._asked:
            raise KeyboardInterrupt

    def sleep(self, seconds: float) -> None:
        """Wait, unless there is nothing to wait for. Ctrl-C ends it."""
        if seconds > 0:
            self._sleep(seconds)

    def _ask(self, number: int, frame: Any) -> None:
        if self.exact or self._asked:
            raise KeyboardInterrupt
        self._asked = True
        self._told()
