"""The state of a shard session at one time: how far it is behind, and what it holds. Pure: ``now`` is an argument."""

from __future__ import annotations

from dataclasses import dataclass

SILENT_S = 5.0
"""Seconds without a message after which KCL counts as not reading, so that the lag grows by the silence. Normally KCL
calls every shard several times a second."""


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """The state of a shard session at one time.

    ``progress`` is a value that changes whenever records are delivered, settled or durable. ``lag_ms`` is the last lag
    that KCL reported; ``heard_s`` is the time of its last message, and ``accepted_s`` the time at which it last
    accepted a checkpoint, both by the clock of ``now``. ``unsettled``: delivered records without a row or dead letter.
    ``held_bytes``: of what is not durable yet. ``oldest_ms``: when the oldest record that has not settled arrived.
    ``is_open``: the session reads its shard.
    """

    shard_id: str
    progress: object
    lag_ms: int
    heard_s: float
    unsettled: int
    held_bytes: int = 0
    oldest_ms: float | None = None
    accepted_s: float | None = None
    is_open: bool = True

    def lag_at(self, now: float) -> float:
        """Return the lag in milliseconds: what KCL reported, plus the time since it was silent."""
        silent_s = now - self.heard_s
        return self.lag_ms + (1000 * silent_s if silent_s > SILENT_S else 0.0)

    def behind_s(self, now: float, wall_s: float) -> float:
        """Return the age in seconds of the oldest record that has not settled, or the lag if that is larger.

        ``wall_s`` is the time of day in seconds since the epoch.
        """
        age_s = 0.0 if self.oldest_ms is None else wall_s - self.oldest_ms / 1000
        return max(0.0, age_s, self.lag_at(now) / 1000)

    def counts(self, now: float) -> dict[str, float | None]:
        """Return the figures of ``/stats``: ``unsettled``, ``held_bytes``, ``lag_s``, and ``checkpoint_age_s``, the
        time since KCL accepted a checkpoint. Empty if the session does not read its shard.
        """
        if not self.is_open:
            return {}
        return {
            "unsettled": self.unsettled,
            "held_bytes": self.held_bytes,
            "lag_s": self.lag_ms / 1000,
            "checkpoint_age_s": None if self.accepted_s is None else round(now - self.accepted_s, 3),
        }
