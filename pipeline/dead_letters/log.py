"""Dead letters in the log, few lines however many there are. Pure: lines come out, the caller logs them."""

from __future__ import annotations

from collections import Counter

from pipeline.dead_letters.redaction import label
from pipeline.record import Dead, Record

INTERVAL_S = 60.0
LABELS = 100
"""So many are told apart; what comes beyond is told by its kind alone."""


class DeadLetterLog:
    """The first dead letter of each label (:func:`pipeline.dead_letters.redaction.label`) at once, the others as
    counts.

    ``url``: where the letters lie, with what is not said here: reason, traceback, payload.
    """

    def __init__(self, url: str = "") -> None:
        self._at = f" at {url}" if url else ""
        self._seen: set[str] = set()
        self._untold: Counter[str] = Counter()

    @property
    def waits(self) -> bool:
        """Whether there is anything for :meth:`counts` to say."""
        return bool(self._untold)

    def note(self, record: Record, dead: Dead, stream: str) -> str | None:
        """A line, if it is the first of its label."""
        name = label(dead)
        if name not in self._seen and len(self._seen) >= LABELS:
            name = dead.kind
        if name in self._seen:
            self._untold[name] += 1
            return None
        self._seen.add(name)
        return (
            f"dead letter: {name}, the first such: record {record.record_id(stream)}. What it says, and the payload, "
            f"are in the letter itself{self._at}; others like it are counted here"
        )

    def counts(self) -> str:
        """What was not told yet, the most frequent first."""
        told = ", ".join(f"{count:,} {name}" for name, count in self._untold.most_common(10))
        rest = len(self._untold) - 10
        self._untold.clear()
        return f"further dead letters: {told}" + (f", and {rest} other sorts" if rest > 0 else "")
