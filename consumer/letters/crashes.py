"""What a redrive leaves behind so that a record that kills the whole command is found by the next ones.

A record that kills its replica is a dead letter again at once. One that kills the command would kill each of them, and
nobody would know which record it was. So each stretch is marked before it is tried, and the mark is ended whatever
becomes of the stretch. A mark that was not ended tells that a command died there. Then the next ones note each try, as
tasks do (:mod:`pipeline.replicas.crash_journal`), until the record is alone in the model, and becomes a failure of kind
``died``. Marks and notes are those of one model version: another model is not blamed.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pipeline.replicas.crash_journal import ENDED, SWITCHES
from pipeline.stores.base import ObjectStore

_MARK = re.compile(r"begun/(?P<place>dt=[0-9-]{10}/[0-9]+-(?P<shard>[A-Za-z0-9_.-]+))-[0-9a-f]{32}")

Surely = Callable[[Callable[[], Any]], Awaitable[Any]]


def crashes_url(notes_url: str, model_version: str) -> str:
    """Where the marks and notes of one model version are, below the notes of redrives."""
    return f"{notes_url}/suspects/{hashlib.sha256(model_version.encode()).hexdigest()[:12]}"


@dataclass(slots=True)
class RedriveMarks:
    """The marks in ``store``. ``surely`` makes a call until it is answered."""

    store: ObjectStore
    surely: Surely
    _ours: set[str] = field(default_factory=set)

    async def begin(self, place: str) -> str:
        """A stretch of this shard's day is about to be tried. Returns the mark."""
        mark = f"begun/{place}-{uuid.uuid4().hex}"
        self._ours.add(mark)
        await self.surely(lambda: self.store.put_new(mark, b"", {}))
        return mark

    async def end(self, mark: str) -> None:
        """It has been tried, or was interrupted; this command lives."""
        await self.surely(lambda: self.store.put_new(f"{mark}{ENDED}", b"", {}))

    async def left(self) -> list[str]:
        """The shards' days at which commands died, or at which another one works now."""
        found = await self.surely(lambda: self.store.list("begun/"))
        return [match["place"] for match in left_of(found) if match[0] not in self._ours]

    async def switches(self, shard_id: str) -> int:
        """As the crash journal asks for: how often commands died at the shard, where one is enough to doubt it."""
        marks = left_of(await self.surely(lambda: self.store.list("begun/")))
        died: int = sum(match["shard"] == shard_id and match[0] not in self._ours for match in marks)
        return died + SWITCHES - 1 if died else 0


def left_of(keys: Iterable[str]) -> list[re.Match[str]]:
    """The marks that were not ended. Pure."""
    there = set(keys)
    matches = (_MARK.fullmatch(key) for key in sorted(there))
    return [match for match in matches if match and f"{match[0]}{ENDED}" not in there]
