"""Models how long predict calls take: a fitted line, and the rate of the fastest calls. Pure.

The line is seconds = a + b · records + c · cost. The fit is recursive and forgets old calls. A call counts less the
further it is from the line: so a pause of the machine, or a model that is warming up, changes it little and not for
long.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

MEMORY_CALLS = 100
"""A call this many calls ago counts e times less than the last one."""

LEAST_CALLS = 4
"""With fewer calls there is no line."""

OFF = 2.0
"""How many typical errors a call may be off the line before it counts less."""

BLOCK, BLOCKS, FEW = 32, 32, 3
"""A rate is the mean of BLOCK calls; BLOCKS rates are kept; before the first one, FEW calls are enough."""

RIDGE = 1e-6
"""Keeps coefficients small that the calls cannot tell apart, for example if every record costs the same."""


@dataclass(frozen=True, slots=True)
class Line:
    """``call_s + record_s · records + cost_s · cost``; no term is negative. ``error``: the typical error, as a
    share.
    """

    call_s: float
    record_s: float
    cost_s: float
    error: float

    def seconds(self, records: int, cost: int) -> float:
        """Return the expected duration of a call, in seconds."""
        return self.call_s + self.record_s * records + self.cost_s * cost


class Rate:
    """Size per second of undisturbed calls: the upper quartile of the means of ``BLOCK`` batches each.

    Means, because records differ; a quartile, because other load can only make a machine slower. ``before``: the
    earlier rate, which counts until there is a mean: the first batches may happen to be short texts.
    """

    def __init__(self, before: float | None = None) -> None:
        self._before = before
        self._blocks: deque[float] = deque(maxlen=BLOCKS)
        self._batches = 0
        self._size = 0
        self._seconds = 0.0

    @property
    def best(self) -> float | None:
        """The rate; None before a few batches were added."""
        if self._blocks:
            return sorted(self._blocks)[3 * len(self._blocks) // 4]
        if self._before is not None:
            return self._before
        return self._size / self._seconds if self._batches >= FEW else None

    def add(self, size: int, seconds: float) -> None:
        """Add a batch of this size and duration."""
        self._batches += 1
        self._size += size
        self._seconds += seconds
        if self._batches == BLOCK:
            self._blocks.append(self._size / self._seconds)
            self._batches, self._size, self._seconds = 0, 0, 0.0


class CallTimeModel:
    """The calls of one replica."""

    def __init__(self) -> None:
        self._calls = 0
        self._weight = 0.0
        self._error = 0.0
        self._products = np.zeros((3, 3))
        self._targets = np.zeros(3)
        self._line: Line | None = None

    @property
    def line(self) -> Line | None:
        """The fitted line; None until :data:`LEAST_CALLS` calls were seen."""
        if self._line is None and self._calls >= LEAST_CALLS:
            self._line = self._solved()
        return self._line

    def add(self, records: int, cost: int, seconds: float) -> None:
        """Learn from a call. Short and long calls count the same, since errors are relative."""
        weight = self._trust(records, cost, seconds) / seconds**2
        keep = 1 - 1 / MEMORY_CALLS
        row = np.array((1.0, records, cost))
        self._targets *= keep
        self._targets += weight * seconds * row
        self._products *= keep
        self._products += weight * row * row[:, None]
        self._calls += 1
        self._line = None  # solved when it is needed

    def _trust(self, records: int, cost: int, seconds: float) -> float:
        """1 for a call near the line, less for one that is further off than usual."""
        if (line := self.line) is None:
            return 1.0
        off = abs(seconds - line.seconds(records, cost)) / max(seconds, line.seconds(records, cost))
        usual = max(0.01, self._error)
        self._error += (min(off, 3 * usual) - self._error) / min(self._calls, MEMORY_CALLS)
        return min(1.0, OFF * usual / off) if off else 1.0

    def _solved(self) -> Line:
        """Least squares. A negative coefficient is set to 0, and the others are solved again."""
        used = [0, 1, 2]
        values = _solve(self._products, self._targets)
        while min(values) < 0:
            used.remove(max(i for i, value in zip(used, values, strict=True) if value < 0))
            values = _solve(self._products[np.ix_(used, used)], self._targets[used])
        found = dict(zip(used, values, strict=True))
        return Line(found.get(0, 0.0), found.get(1, 0.0), found.get(2, 0.0), self._error)


def _solve(products: NDArray[np.float64], targets: NDArray[np.float64]) -> list[float]:
    """Solve after scaling the diagonal to ones, with a ridge."""
    scale = np.array([1 / sqrt(own) if own > 0 else 0.0 for own in products.diagonal().tolist()])
    scaled = products * scale * scale[:, None]
    scaled.flat[:: len(scale) + 1] += RIDGE
    values: list[float] = (np.linalg.solve(scaled, targets * scale) * scale).tolist()
    return values
