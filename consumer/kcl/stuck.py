"""Shards that fall behind and do not move: what ``/healthz`` turns red for. Pure: ``now`` is an argument.

A shard may stand still with good reason: nothing comes, or its records wait for a file to fill. It is stuck when it
makes no progress *and* somebody waits: its lag grows, or records that it was handed have not settled. Whatever the
cause (a sink that never answers, a model that never ends, a JVM that has gone silent), a new task is worth a try.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SILENT_S = 5.0
"""KCL calls every shard several times a second. Silent for longer, it is not reading, and the lag grows unseen."""


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """One look at a shard session.

    ``progress`` is anything that changes whenever the session gets on: what was delivered, settled, durable.
    ``lag_ms`` is what KCL said last, ``heard_s`` when it last said anything, by the clock of ``now``.
    """

    shard_id: str
    progress: object
    lag_ms: int
    heard_s: float
    unsettled: int

    def lag_at(self, now: float) -> float:
        """In ms: KCL's word, and the time for which nothing has been read since."""
        silent_s = now - self.heard_s
        return self.lag_ms + (1000 * silent_s if silent_s > SILENT_S else 0.0)


@dataclass(frozen=True, slots=True)
class _Mark:
    progress: object
    since_s: float
    lag_ms: float


class StuckWatch:
    """``after_s``: how long a shard may fall behind without any progress."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._marks: dict[str, _Mark] = {}

    def look(self, looks: Iterable[SessionSnapshot], now: float) -> dict[str, str]:
        """The shards that are stuck, with the reason in one line each. Shards that are not named are forgotten."""
        marks: dict[str, _Mark] = {}
        stuck: dict[str, str] = {}
        for look in looks:
            mark = self._marks.get(look.shard_id)
            if mark is None or mark.progress != look.progress:
                mark = _Mark(look.progress, now, look.lag_at(now))
            marks[look.shard_id] = mark
            if reason := self._reason(look, mark, now):
                stuck[look.shard_id] = reason
        self._marks = marks
        return stuck

    def _reason(self, look: SessionSnapshot, mark: _Mark, now: float) -> str:
        still_s = now - mark.since_s
        lag_ms = look.lag_at(now)
        if still_s < self._after_s or not (look.unsettled or lag_ms > mark.lag_ms):
            return ""
        silent_s = now - look.heard_s
        silent = f", nothing heard from KCL for {silent_s:.0f} s" if silent_s > SILENT_S else ""
        return (
            f"{look.shard_id} is stuck: no progress for {still_s:.0f} s, {lag_ms / 1000:.0f} s behind, "
            f"{look.unsettled} records not settled{silent}"
        )
