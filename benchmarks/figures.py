"""A benchmark's figures: each is the median of several runs, and their spread."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """``values``: one for each run. ``bar``: the target that ``value`` should reach or, with ``at_most``, not
    exceed.
    """

    key: str
    values: list[float]
    unit: str = ""
    bar: float | None = None
    at_most: bool = False
    text: str = ""

    @property
    def value(self) -> float:
        """The median."""
        return median(self.values)

    @property
    def spread(self) -> float:
        """The distance between the lowest and highest run, as a share of the median."""
        return (max(self.values) - min(self.values)) / abs(self.value) if self.value else 0.0

    @property
    def reached(self) -> bool | None:
        """Whether the target is met; None if there is none."""
        if self.bar is None:
            return None
        return self.value <= self.bar if self.at_most else self.value >= self.bar
