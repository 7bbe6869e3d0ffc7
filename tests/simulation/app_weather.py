"""How probable each fault of the simulated application is."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Weather:
    """Probabilities of faults: per second for those of a task, per call for the others."""

    crash: float
    freeze: float
    sigterm: float
    reshard: float
    hand_off: float
    outage: float
    crash_in_call: float
    unanswered: float
    throttled: float

    @classmethod
    def drawn(cls, dice: random.Random) -> Weather:
        def rate(most: float) -> float:
            return most * dice.random() ** 2 if dice.random() < 0.8 else 0.0

        return cls(
            crash=rate(0.25),
            freeze=rate(0.25),
            sigterm=rate(0.25),
            reshard=rate(0.5),
            hand_off=rate(0.25),
            outage=rate(0.15),
            crash_in_call=rate(0.05),
            unanswered=rate(0.4),
            throttled=rate(0.3),
        )
