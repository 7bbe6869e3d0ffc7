"""Notes of dead letters that failed again when they were redriven. The dead letters themselves are not changed.

An object ``dt=<day>/<stream created>-<shard>-<number>.jsonl`` has a line for each failure of a range of dead letters. A
name is taken once, and nothing is changed or deleted: the number of lines is a dead letter's number of failures.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from pipeline.record import Dead, Position, Record
from pipeline.stores.base import ObjectStore
from pipeline.table.staged_letters import read_letters

_NOTES = re.compile(r"(?P<place>dt=[0-9-]{10}/[0-9]+-[A-Za-z0-9_.-]+)-(?P<number>[0-9]{6})\.jsonl")


@dataclass(frozen=True, slots=True)
class Failure:
    """One more failure of a dead letter's record. ``failed_at``: ISO 8601."""

    position: Position
    kind: str
    reason: str
    traceback: str
    attempts: int
    model_version: str
    failed_at: str
    writer: str


class RedriveNotes:
    """The notes of one shard's day. ``place``: ``dt=<day>/<stream created>-<shard>``. Calls block."""

    def __init__(self, store: ObjectStore, place: str) -> None:
        self._store = store
        self._place = place
        self._others: set[str] = set()

    def failures(self) -> dict[Position, list[Failure]]:
        """Return the failures by record, the oldest first."""
        found: dict[Position, list[Failure]] = {}
        for key in self._keys():
            for line in (read_letters(self._store, key) or b"").splitlines():
                failure = _failure(orjson.loads(line))
                found.setdefault(failure.position, []).append(failure)
        return found

    def add(self, failures: Sequence[Failure]) -> None:
        """Write the failures. May be repeated after an error; they are written once."""
        if not failures:
            return
        body = b"".join(_line(failure) for failure in failures)
        while not self._has(body):
            key = f"{self._place}-{self._next():06}.jsonl"
            if self._store.put_new(key, body, {}):
                self._others.add(key)
                return

    def _has(self, body: bytes) -> bool:
        """Whether an earlier try, whose response was lost, has written this. Bodies differ, since they contain their
        writer.
        """
        fresh = [key for key in self._keys() if key not in self._others]
        found = any(read_letters(self._store, key) == body for key in fresh)
        self._others.update(fresh)
        return found

    def _next(self) -> int:
        return max((int(key[-12:-6]) for key in self._others), default=-1) + 1

    def _keys(self) -> list[str]:
        found = (_NOTES.fullmatch(key) for key in self._store.list(f"{self._place}-"))
        return [match[0] for match in found if match and match["place"] == self._place]


def failure_of(record: Record, dead: Dead, model_version: str, failed_at: datetime, writer: str) -> Failure:
    """Return the failure of a record that is dead again."""
    return Failure(
        position=record.position,
        kind=dead.kind,
        reason=_printable(dead.reason),
        traceback=_printable(dead.traceback),
        attempts=dead.attempts,
        model_version=model_version,
        failed_at=failed_at.isoformat(timespec="milliseconds"),
        writer=writer,
    )


def _printable(text: str) -> str:
    """Replace lone surrogates, which a model's message may contain and JSON must not."""
    return text.encode("utf-8", "replace").decode()


def _line(failure: Failure) -> bytes:
    said = {
        "sequence_number": str(failure.position.sequence),
        "sub_sequence_number": failure.position.sub,
        "kind": failure.kind,
        "reason": failure.reason,
        "traceback": failure.traceback,
        "attempts": failure.attempts,
        "model_version": failure.model_version,
        "failed_at": failure.failed_at,
        "redrive": failure.writer,
    }
    return orjson.dumps(said) + b"\n"


def _failure(said: dict[str, object]) -> Failure:
    return Failure(
        position=Position(int(str(said["sequence_number"])), int(str(said["sub_sequence_number"]))),
        kind=str(said["kind"]),
        reason=str(said["reason"]),
        traceback=str(said["traceback"]),
        attempts=int(str(said["attempts"])),
        model_version=str(said["model_version"]),
        failed_at=str(said["failed_at"]),
        writer=str(said["redrive"]),
    )
