"""Parts that fail now and may recover: shown while they fail, and given up after a time.

Nothing here is about records. A sink that does not answer or a model that does not start is retried with back-off.
Meanwhile ``/healthz`` and ``/metrics`` show it; at its deadline the task ends with its reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

REFUSED_S = 60.0
"""How long refusals are retried, in seconds. They need a person's fix, but credentials and policies can change while
a task runs.
"""


@dataclass(frozen=True, slots=True)
class Outage:
    """A part that fails now. ``part`` is one of a small fixed set, so it can be a label. ``lasted_s``: since its
    first failure in a row. ``left_s``: until the task ends.
    """

    part: str
    reason: str
    lasted_s: float
    left_s: float

    def __str__(self) -> str:
        ends = "" if self.left_s == float("inf") else f"; the task ends in {self.left_s:.0f} s"
        return f"{self.part}: {self.reason} (for {self.lasted_s:.0f} s{ends})"


class Outages:
    """The failing parts of one task. ``clock`` is in seconds and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failing: dict[Component, None] = {}

    def part(self, name: str, give_up_after_s: float = float("inf")) -> Component:
        """Register something that may fail for so long; for ever by default. The shards of a sink share a name."""
        return Component(name, give_up_after_s, self._clock, self._failing)

    def current(self) -> list[Outage]:
        """Return one outage for each name that is failing, the one with the least time left. Sorted by name."""
        worst: dict[str, Outage] = {}
        for part in self._failing:
            trouble = part.trouble()
            if trouble.part not in worst or trouble.left_s < worst[trouble.part].left_s:
                worst[trouble.part] = trouble
        return [worst[name] for name in sorted(worst)]


class Component:
    """Notes failures and successes of one part. Made by :meth:`Outages.part`."""

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
        """Note a failure. Return True if it is time to give up.

        Failures in a row may last ``give_up_after_s``. Refusals in a row, which do not pass by themselves, may last
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
        """Whether the last result that was noted is a failure."""
        return self in self._failing

    def worked(self) -> None:
        """Note that it works again, or that nothing needs it any more."""
        self._failing.pop(self, None)
        self._refused_since = None

    def trouble(self) -> Outage:
        """Return its outage, as of now. Call it only while it is failing."""
        now = self._clock()
        left_s = self._since + self._give_up_after_s - now
        if self._refused_since is not None:
            left_s = min(left_s, self._refused_since + REFUSED_S - now)
        return Outage(self._name, self._reason, now - self._since, max(0.0, left_s))
