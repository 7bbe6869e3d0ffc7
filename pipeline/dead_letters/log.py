"""Logs dead letters in few lines, however many there are. Pure: it returns lines, and the caller logs them."""

from __future__ import annotations

from collections import Counter

from pipeline.dead_letters.redaction import label
from pipeline.record import Dead, Record

INTERVAL_S = 60.0
LABELS = 100
"""How many labels are counted separately; further ones are counted by their kind only."""


class DeadLetterLog:
    """Reports the first dead letter of each label (:func:`pipeline.dead_letters.redaction.label`) at once, others as
    counts.

    ``url``: where the dead letters are, with what is not logged: reason, traceback, payload.
    """

    def __init__(self, url: str = "") -> None:
        self._at = f" at {url}" if url else ""
        self._seen: set[str] = set()
        self._untold: Counter[str] = Counter()

    @property
    def waits(self) -> bool:
        """Whether :meth:`counts` has anything to report."""
        return bool(self._untold)

    def note(self, record: Record, dead: Dead, stream: str) -> str | None:
        """Count a dead letter. Return a line if it is the first of its label, else None."""
        name = label(dead)
        if name not in self._seen and len(self._seen) >= LABELS:
            name = dead.kind
        if name in self._seen:
            self._untold[name] += 1
            return None
        self._seen.add(name)
        return (
            f"dead letter: {name}, the first of this sort: record {record.record_id(stream)}. Its reason and payload "
            f"are in the dead letter{self._at}; others of this sort are only counted in this log"
        )

    def counts(self) -> str:
        """Return what was not reported yet, the most frequent first."""
        told = ", ".join(f"{count:,} {name}" for name, count in self._untold.most_common(10))
        rest = len(self._untold) - 10
        self._untold.clear()
        return f"further dead letters: {told}" + (f", and {rest} other sorts" if rest > 0 else "")
