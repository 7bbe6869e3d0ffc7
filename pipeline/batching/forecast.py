"""Predicts the duration of a batch of any size, by the lines fitted to the calls of each replica. Pure."""

from __future__ import annotations

from math import log

from pipeline.batching.call_times import CallTimeModel, Line
from pipeline.events import Predicted

LATELY = 100
"""The mean cost of a record is taken over about this many calls."""


class CallForecast:
    """The forecast for all replicas. Sizes are records, or costs if the model ``measures`` them."""

    def __init__(self, *, measures: bool) -> None:
        self._measures = measures
        self._lines: dict[int, CallTimeModel] = {}
        self._calls = 0
        self._record_cost = 0.0

    def learn(self, call: Predicted, seconds: float) -> None:
        """Learn from a call, which took ``seconds`` for the host."""
        self._calls += 1
        self._record_cost += (call.cost / call.records - self._record_cost) / min(self._calls, LATELY)
        self._lines.setdefault(call.replica, CallTimeModel()).add(call.records, call.padded, seconds)

    def line(self, replica: int) -> Line | None:
        """The fitted duration of a call on this replica; None until a few calls were seen."""
        fit = self._lines.get(replica)
        return fit.line if fit else None

    def seconds(self, size: int) -> float:
        """Seconds of a call of this size on the slowest replica; 0 until it is known."""
        records = max(1, round(size / self._record_cost)) if self._measures and self._record_cost else size
        cost = size if self._measures else round(size * (self._record_cost or 1))
        lines = [line for fit in self._lines.values() if (line := fit.line)]
        return max((line.seconds(records, cost) * (1 + line.error) for line in lines), default=0.0)

    def gain(self, usual: int, other: int) -> float:
        """How much faster batches of another size would be, as a logarithm; 0 until it is known."""
        now_s, then_s = self.seconds(usual), self.seconds(other)
        return log(other / usual * now_s / then_s) if now_s and then_s else 0.0

    def call_cost(self) -> int:
        """The cost that takes as long as a call by itself, on the replica where that is least; 0 until it is known."""
        lines = [line for fit in self._lines.values() if (line := fit.line) and line.cost_s]
        return int(min((line.call_s / line.cost_s for line in lines), default=0))
