"""Shards that fall behind without progress, for which ``/healthz`` fails. Pure: ``now`` is an argument.

A shard may have no progress for a good reason: there are no records, or its records wait for a file to fill. It is
stuck if it makes no progress *and* its lag grows or it has records that are not settled. The cause may be a sink that
never answers, a model that never returns, or a JVM that is silent; a new task may help.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from consumer.kcl.session_snapshot import SILENT_S, SessionSnapshot
from pipeline.errors import counted


class AtWork(Protocol):
    """The part of a session that says whether its shard is still to be read."""

    @property
    def shard_id(self) -> str:
        """Empty until KCL has named the shard."""
        ...

    @property
    def over(self) -> bool:
        """The session has ended."""
        ...

    @property
    def passed(self) -> bool:
        """The slice that a replay reads of the shard is read and checkpointed."""
        ...


S = TypeVar("S", bound=AtWork)


def at_work(sessions: Iterable[S]) -> list[S]:
    """The sessions of shards that must make progress. A shard that has passed its slice is read no further, though
    its lag grows: KCL waits for an answer that is withheld.
    """
    return [session for session in sessions if session.shard_id and not (session.over or session.passed)]


@dataclass(frozen=True, slots=True)
class _Mark:
    progress: object
    since_s: float
    lag_ms: float


class StuckWatch:
    """Finds stuck shards. ``after_s``: how long a shard may fall behind without progress."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._marks: dict[str, _Mark] = {}

    def look(self, looks: Iterable[SessionSnapshot], now: float) -> dict[str, str]:
        """Return the stuck shards, each with the reason in one line. ``looks`` must have every session."""
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
            f"{counted(look.unsettled, 'record')} not settled{silent}"
        )
