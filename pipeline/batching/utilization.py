"""How replicas spend their time: how much was predicting at the best known rate, and what used the rest.

Pure: ``now`` is an argument, in seconds of any clock that never goes back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from pipeline.batching.batch_size import BatchSizeController
from pipeline.events import Predicted

PARTS = ("model", "padding", "underfilled", "contention", "transport", "sinks", "waiting")
"""What a replica's time is divided into, see :class:`ReplicaTime`."""

EXPECTED = ("model", "padding", "underfilled")
"""Parts of a call that earlier calls predict."""

LATE_S = 60.0
"""Seconds that "recent" shares cover."""

MARK_S = 5.0


class ReplicaTime:
    """Divides the time of ``replicas`` replicas since the first batch. The parts are seconds and add up to all of it.

    - ``model``: what the calls would have taken at the best known rate, without padding: the time of the model alone;
    - ``padding``: the same for padding;
    - ``underfilled``: how much longer calls took because batches were smaller than the best size;
    - ``contention``: how much longer they took for other reasons;
    - ``transport``: a batch or its results were on the way, and the replica was idle;
    - ``sinks``: the replica had no batch, because the task had reached its limit of records that sinks have not stored;
    - ``waiting``: the replica had no batch, because there were no records, or a batch was not due yet.
    """

    def __init__(self, replicas: int, batch_sizes: BatchSizeController | None) -> None:
        self._replicas = replicas
        self._batch_sizes = batch_sizes
        self._changed: float | None = None
        self._out = 0
        self._held = False
        self._out_s = 0.0
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._marks: deque[tuple[float, Mapping[str, float]]] = deque()

    def state(self, now: float, batches: int, *, held: bool) -> None:
        """From now on, ``batches`` batches are out; ``held``: no record may be admitted before sinks make progress."""
        self._pass(now)
        self._out, self._held = min(batches, self._replicas), held

    def called(self, call: Predicted) -> None:
        """A predict call has returned."""
        line = self._batch_sizes and self._batch_sizes.line(call.replica)
        rate = self._batch_sizes and self._batch_sizes.best_rate
        seconds = self._seconds
        if self._batch_sizes is None or not line or not rate:
            seconds["model"] += call.seconds
            return
        size, useful = self._batch_sizes.sizes(call)
        model, padding = useful / rate, (size - useful) / rate
        small = (
            max(0.0, line.seconds(call.records, call.padded) - size / rate) if self._batch_sizes.is_small(size) else 0.0
        )
        seconds["model"] += model
        seconds["padding"] += padding
        seconds["underfilled"] += small
        seconds["contention"] += call.seconds - model - padding - small

    def seconds(self, now: float) -> dict[str, float]:
        """Return the seconds of each part since the first batch."""
        if self._changed is not None:
            self._pass(now)
        parts = dict(self._seconds)
        expected = sum(parts[part] for part in EXPECTED)
        in_replicas = expected + parts["contention"]
        parts["transport"] = max(0.0, self._out_s - in_replicas)
        if parts["contention"] < 0:  # faster than expected
            parts["contention"] = 0.0
            parts.update({part: parts[part] * in_replicas / expected for part in EXPECTED})
        return parts

    def shares(self, now: float) -> dict[str, float]:
        """Return each part's share of the time since the first batch."""
        return _shares(self.seconds(now))

    def late_shares(self, now: float) -> dict[str, float]:
        """Return each part's share of about the last minute."""
        seconds = self.seconds(now)
        if not self._marks or now - self._marks[-1][0] >= MARK_S:
            self._marks.append((now, seconds))
        while len(self._marks) > 1 and self._marks[1][0] <= now - LATE_S:
            self._marks.popleft()
        since, before = self._marks[0]
        if since == now:
            return _shares(seconds)
        return _shares({part: max(0.0, seconds[part] - before[part]) for part in PARTS})

    def _pass(self, now: float) -> None:
        passed = 0.0 if self._changed is None else now - self._changed
        self._changed = now
        self._out_s += self._out * passed
        self._seconds["sinks" if self._held else "waiting"] += (self._replicas - self._out) * passed


def described(shares: Mapping[str, float]) -> str:
    """Return one line, largest share first: ``model 91 %, waiting 6 %, transport 3 %``."""
    ordered = sorted(shares.items(), key=lambda part: -part[1])
    return ", ".join(f"{part} {share:.0%}".replace("%", " %") for part, share in ordered if share >= 0.005)


def _shares(seconds: Mapping[str, float]) -> dict[str, float]:
    whole = sum(seconds.values())
    return {part: value / whole if whole else 0.0 for part, value in seconds.items()}
