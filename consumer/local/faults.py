"""Faults on purpose, for tests: which request fails, and how. Pure but for the dice, which are seeded."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from consumer.local.errors import AwsError

Kind = Literal["delay", "throttle", "error", "reset", "expired", "lost"]

THROTTLES = {
    "kinesis": ("ProvisionedThroughputExceededException", 400),
    "dynamodb": ("ProvisionedThroughputExceededException", 400),
    "s3": ("SlowDown", 503),
}


@dataclass(slots=True)
class Rule:
    """What happens to the requests that a rule meets.

    ``delay``: they wait ``delay_s`` first. ``throttle``: they are refused as AWS refuses what comes too fast.
    ``error``: they are refused with ``status`` and ``code``. ``reset``: their connection is reset, unanswered.
    ``expired``: they are refused as an expired iterator. ``lost``: they are performed, and answered as ``error``.
    ``count``: how many it meets before it is spent, ``None`` for all; ``probability``: of meeting each.
    """

    service: str = "*"
    operation: str = "*"
    kind: Kind = "error"
    status: int = 500
    code: str = "InternalFailure"
    delay_s: float = 0.0
    count: int | None = None
    probability: float = 1.0
    seed: int = 0
    met: int = 0
    _dice: random.Random = field(default_factory=random.Random, repr=False)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Rule:
        """A rule as written. :raises ValueError: a name or kind that there is not, or a value of another type."""
        kinds: dict[str, type | tuple[type, ...]] = {
            "service": str,
            "operation": str,
            "kind": str,
            "status": int,
            "code": str,
            "delay_s": (int, float),
            "count": (int, type(None)),
            "probability": (int, float),
            "seed": int,
        }
        for key, value in values.items():
            if key not in kinds or not isinstance(value, kinds[key]):
                raise ValueError(f"{key} = {value!r} is no part of a fault rule")
        if values.get("kind", "error") not in get_args(Kind):
            raise ValueError(f"kind is one of {', '.join(get_args(Kind))}")
        rule = cls(**values)
        rule._dice.seed(rule.seed)
        return rule

    def meets(self, service: str, operation: str) -> bool:
        """Whether this request is one of its own; counts it if so."""
        if self.service not in ("*", service) or self.operation not in ("*", operation):
            return False
        if self.count is not None and self.met >= self.count:
            return False
        if self.probability < 1 and self._dice.random() >= self.probability:
            return False
        self.met += 1
        return True

    def error(self, service: str) -> AwsError:
        """What the request is answered instead."""
        if self.kind == "expired":
            return AwsError("ExpiredIteratorException", "Iterator expired: a fault on purpose.")
        if self.kind == "throttle":
            code, status = THROTTLES.get(service, ("ThrottlingException", 400))
            return AwsError(code, "Rate exceeded: a fault on purpose.", status)
        return AwsError(self.code, "A fault on purpose.", self.status)

    def describe(self) -> dict[str, Any]:
        names = ("service", "operation", "kind", "status", "code", "delay_s", "count", "probability", "seed", "met")
        return {name: getattr(self, name) for name in names}


class Faults:
    """The rules in force, in the order in which they were set. The first that meets a request decides."""

    def __init__(self) -> None:
        self.rules: dict[str, Rule] = {}
        self._ids = itertools.count(1)

    def add(self, values: dict[str, Any]) -> str:
        rule_id = str(next(self._ids))
        self.rules[rule_id] = Rule.of(values)
        return rule_id

    def remove(self, rule_id: str) -> bool:
        return self.rules.pop(rule_id, None) is not None

    def meeting(self, service: str, operation: str) -> Rule | None:
        return next((rule for rule in self.rules.values() if rule.meets(service, operation)), None)
