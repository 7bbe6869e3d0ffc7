"""Where the replicas' time went: how much of it was predicting at the best rate known, and what took the rest.

Pure: ``now`` is an argument, in seconds of any clock that never goes back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from pipeline.batching.batch_size import BatchSizeController
from pipeline.events import Predicted

PARTS = ("model", "padding", "underfilled", "contention", "transport", "sinks", "waiting")
"""What a replica's second may be, see :class:`ReplicaTime`."""

EXPECTED = ("model", "padding", "underfilled")
"""Of a call, what was to be expected from earlier ones."""

LATE_S = 60.0
"""What is meant by "of late"."""

MARK_S = 5.0


class ReplicaTime:
    """Of the time of ``replicas`` replicas since the first batch. The parts are seconds, and add up to all of it.

    ``model``: what the calls would have taken at the best rate that ``pace`` knows, without padding: the bare model's
    time. ``padding``: the same for padding. ``underfilled``: what batches took longer for being smaller than is best.
    ``contention``: what else they took longer. ``transport``: a batch was out, and no replica was at it: on its way, or
    its results. ``sinks``: nothing was out, since what the task may hold was held until sinks had it. ``waiting``:
    nothing was out, since there was nothing, or not long enough.
    """

    def __init__(self, replicas: int, pace: BatchSizeController | None) -> None:
        self._replicas = replicas
        self._pace = pace
        self._changed: float | None = None
        self._out = 0
        self._held = False
        self._out_s = 0.0
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._marks: deque[tuple[float, Mapping[str, float]]] = deque()

    def state(self, now: float, batches: int, *, held: bool) -> None:
        """From now on so many batches are out; ``held``: no record may be taken in before sinks have got on."""
        self._pass(now)
        self._out, self._held = min(batches, self._replicas), held

    def called(self, call: Predicted) -> None:
        """A predict call came back."""
        line = self._pace and self._pace.line(call.replica)
        rate = self._pace and self._pace.best_rate
        seconds = self._seconds
        if self._pace is None or not line or not rate:
            seconds["model"] += call.seconds
            return
        size, useful = self._pace.sizes(call)
        model, padding = useful / rate, (size - useful) / rate
        small = max(0.0, line.seconds(call.records, call.padded) - size / rate) if self._pace.is_small(size) else 0.0
        seconds["model"] += model
        seconds["padding"] += padding
        seconds["underfilled"] += small
        seconds["contention"] += call.seconds - model - padding - small

    def seconds(self, now: float) -> dict[str, float]:
        """Of each part, since the first batch."""
        if self._changed is not None:
            self._pass(now)
        parts = dict(self._seconds)
        expected = sum(parts[part] for part in EXPECTED)
        in_replicas = expected + parts["contention"]
        parts["transport"] = max(0.0, self._out_s - in_replicas)
        if parts["contention"] < 0:  # quicker than was to be expected
            parts["contention"] = 0.0
            parts.update({part: parts[part] * in_replicas / expected for part in EXPECTED})
        return parts

    def shares(self, now: float) -> dict[str, float]:
        """Of the time since the first batch."""
        return _shares(self.seconds(now))

    def late_shares(self, now: float) -> dict[str, float]:
        """Of the last minute, about."""
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
    """In a line, the largest first: ``model 91 %, waiting 6 %, transport 3 %``."""
    ordered = sorted(shares.items(), key=lambda part: -part[1])
    return ", ".join(f"{part} {share:.0%}".replace("%", " %") for part, share in ordered if share >= 0.005)


def _shares(seconds: Mapping[str, float]) -> dict[str, float]:
    whole = sum(seconds.values())
    return {part: value / whole if whole else 0.0 for part, value in seconds.items()}
