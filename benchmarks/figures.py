"""What a benchmark measured: a figure is the median of several runs, and says how far they lie apart."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """``values``: one per run. ``bar``: what ``value`` should reach, or, if ``at_most``, not exceed."""

    key: str
    values: list[float]
    unit: str = ""
    bar: float | None = None
    at_most: bool = False
    text: str = ""

    @property
    def value(self) -> float:
        return median(self.values)

    @property
    def spread(self) -> float:
        """Between the least and the largest run, as a share of the median."""
        return (max(self.values) - min(self.values)) / abs(self.value) if self.value else 0.0

    @property
    def reached(self) -> bool | None:
        """None where there is no bar."""
        if self.bar is None:
            return None
        return self.value <= self.bar if self.at_most else self.value >= self.bar
