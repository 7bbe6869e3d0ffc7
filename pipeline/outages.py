"""What fails now and may come right: to be seen while it lasts, and given up when it has lasted too long.

Nothing here is about records. A sink that does not answer, a model that does not start again: they are tried again with
back-off, shown by ``/healthz`` and ``/metrics`` meanwhile, and end the task with their reason at their deadline.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

GIVE_UP_AFTER_S = 3600.0
"""How long a sink may fail to answer, unless its settings say otherwise."""

REFUSED_S = 60.0
"""How long a refusal may last that somebody must mend: credentials and policies change under a running task."""


@dataclass(frozen=True, slots=True)
class Outage:
    """``part`` is one of a small closed set, fit for a label; ``lasted_s`` since its first failure in a row."""

    part: str
    reason: str
    lasted_s: float
    left_s: float

    def __str__(self) -> str:
        ends = "" if self.left_s == float("inf") else f"; the task ends in {self.left_s:.0f} s"
        return f"{self.part}: {self.reason} (for {self.lasted_s:.0f} s{ends})"


class Outages:
    """Of one task. ``clock`` never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failing: dict[Component, None] = {}

    def part(self, name: str, give_up_after_s: float = GIVE_UP_AFTER_S) -> Component:
        """Something that may fail, for ever if ``give_up_after_s`` is infinite. Many may have one name: a sink's
        shards."""
        return Component(name, give_up_after_s, self._clock, self._failing)

    def current(self) -> list[Outage]:
        """One for each name that is failing: the one with the least time left. In the order of their names."""
        worst: dict[str, Outage] = {}
        for part in self._failing:
            trouble = part.trouble()
            if trouble.part not in worst or trouble.left_s < worst[trouble.part].left_s:
                worst[trouble.part] = trouble
        return [worst[name] for name in sorted(worst)]


class Component:
    """Made by :meth:`Outages.part`."""

    def __init__(
        self,
        name: str,
        give_up_after_s: float,
        clock: Callable[[], float],
        failing: dict[Component, None] | None = None,
    ) -> None:
        self._name = name
        self._give_up_after_s = give_up_after_s
        self._clock = clock
        self._failing = {} if failing is None else failing
        self._reason = ""
        self._since = 0.0
        self._refused_since: float | None = None

    def failed(self, reason: str, *, refused: bool = False) -> bool:
        """Note a failure; true if it is time to give up.

        Failures in a row may last ``give_up_after_s``; refusals in a row, which will not pass by themselves,
        ``REFUSED_S``.
        """
        now = self._clock()
        if self not in self._failing:
            self._failing[self] = None
            self._since = now
        self._reason = reason
        if not refused:
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = now
        return self.trouble().left_s <= 0

    @property
    def failing(self) -> bool:
        """Whether the last that was noted is a failure."""
        return self in self._failing

    def worked(self) -> None:
        """It came right, or nobody waits for it any more."""
        self._failing.pop(self, None)
        self._refused_since = None

    def trouble(self) -> Outage:
        """How long it has failed, why, and how long it may go on."""
        now = self._clock()
        left_s = self._since + self._give_up_after_s - now
        if self._refused_since is not None:
            left_s = min(left_s, self._refused_since + REFUSED_S - now)
        return Outage(self._name, self._reason, now - self._since, max(0.0, left_s))
