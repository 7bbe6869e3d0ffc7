"""Injected faults for tests: rules that say which requests fail, and how. :mod:`consumer.local.asgi` applies them."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

FaultKind = Literal["error", "throttle", "delay", "stall", "reset", "expired_iterator", "partial"]
KINDS: tuple[str, ...] = get_args(FaultKind)


MOST_DELAY_S = 3600.0
_LIMITS: dict[str, tuple[float, float]] = {
    "status": (200, 599),
    "delay_s": (0, MOST_DELAY_S),
    "probability": (0, 1),
    "share": (0, 1),
    "count": (1, 2**31 - 1),
    "seed": (-(2**63), 2**63 - 1),
}
"""Least and greatest value of each number."""

_TYPES: dict[str, Any] = {
    **dict.fromkeys(("kind", "service", "operation", "match", "code"), str),
    **dict.fromkeys(("status", "seed"), int),
    **dict.fromkeys(("delay_s", "probability", "share"), int | float),
    "performed": bool,
    "count": int | None,
}


@dataclass(slots=True)
class FaultRule:
    """One rule. Empty ``service``, ``operation`` and ``match`` match everything.

    - ``error``: answer with ``status`` and ``code``. ``throttle``: answer with the service's throttling error.
    - ``delay``: answer after ``delay_s`` seconds. ``stall``: do not answer until the rule is removed.
    - ``reset``: reset the connection. ``expired_iterator``: answer GetRecords as for an expired iterator.
    - ``partial``: PutRecords refuses a random ``share`` of its records.

    With ``performed`` the request is performed before the fault, and its answer is lost. ``count`` is the number of
    requests after which the rule ends; None means no end. ``probability`` selects requests at random; the same ``seed``
    selects the same ones. ``match`` must occur in the encoded path of the request, or in its body.
    """

    kind: FaultKind
    service: str = ""
    operation: str = ""
    match: str = ""
    status: int = 500
    code: str = ""
    delay_s: float = 1.0
    performed: bool = False
    count: int | None = None
    probability: float = 1.0
    share: float = 0.5
    seed: int = 0
    hits: int = 0
    id: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    dice: random.Random = field(default_factory=random.Random, repr=False)

    @classmethod
    def parse(cls, spec: Any) -> FaultRule:
        """Check and return a rule that was parsed from JSON.

        :raises ValueError: names the field that is wrong.
        """
        if not isinstance(spec, dict):
            raise ValueError("a fault must be an object")  # noqa: TRY004  # one type of error for any wrong JSON
        if unknown := sorted(spec.keys() - _TYPES.keys()):
            raise ValueError(f"unknown field {', '.join(unknown)}. Fields: {', '.join(_TYPES)}")
        if spec.get("kind") not in KINDS:
            raise ValueError(f"kind: {spec.get('kind')!r} is not one of {', '.join(KINDS)}")
        for name, value in spec.items():
            if not isinstance(value, _TYPES[name]) or isinstance(value, bool) != (_TYPES[name] is bool):
                raise ValueError(f"{name}: {value!r} has the wrong type")
            least, most = _LIMITS.get(name, (0, 0))
            if name in _LIMITS and value is not None and not least <= value <= most:
                raise ValueError(f"{name}: {value!r} is not between {least:g} and {most:g}")
        fault = cls(**spec)
        fault.dice.seed(fault.seed)
        return fault

    def concerns(self, service: str, operation: str, *texts: bytes) -> bool:
        """Whether the rule matches a request. ``texts`` are its path and body, for ``match``."""
        return (
            self.service in ("", service)
            and self.operation in ("", operation)
            and (not self.match or any(self.match.encode() in text for text in texts))
            and (self.count is None or self.hits < self.count)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as JSON, with its ``id`` and ``hits``."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("over", "dice")}


class Faults:
    """The rules in force, oldest first. The first one that matches a request and is selected by chance applies."""

    def __init__(self) -> None:
        self._rules: dict[int, FaultRule] = {}
        self._ids = itertools.count(1)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def add(self, fault: FaultRule) -> FaultRule:
        """Put a rule in force and return it with its ``id``."""
        fault.id = next(self._ids)
        self._rules[fault.id] = fault
        return fault

    def remove(self, fault_id: int | None = None) -> list[FaultRule]:
        """End one rule, or all, and return them. Requests that they stall go on."""
        chosen = list(self._rules) if fault_id is None else [fault_id]
        removed = [self._rules.pop(number) for number in chosen if number in self._rules]
        for fault in removed:
            fault.over.set()
        return removed

    def all(self) -> list[FaultRule]:
        """Return the rules in force, oldest first."""
        return list(self._rules.values())

    def pick(self, service: str, operation: str, *texts: bytes) -> FaultRule | None:
        """Return the rule that applies to a request, or None. The request counts as a hit of the rule."""
        for fault in self._rules.values():
            if fault.concerns(service, operation, *texts) and fault.dice.random() < fault.probability:
                fault.hits += 1
                return fault
        return None
