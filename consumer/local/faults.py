"""Failures on demand, for tests: which requests are to fail, and how. Rules only; the application carries them out."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

Kind = Literal["error", "throttle", "delay", "stall", "reset", "expired_iterator", "partial"]
KINDS: tuple[str, ...] = get_args(Kind)


_TYPES: dict[str, Any] = {
    **dict.fromkeys(("kind", "service", "operation", "match", "code"), str),
    **dict.fromkeys(("status", "seed"), int),
    **dict.fromkeys(("delay_s", "probability", "share"), int | float),
    "performed": bool,
    "count": int | None,
}


@dataclass(slots=True)
class Fault:
    """One rule. Empty ``service``, ``operation`` and ``match`` match everything.

    - ``error``: answer ``status`` and ``code``. ``throttle``: what the service answers when it is asked too often.
    - ``delay``: answer after ``delay_s``. ``stall``: not before the rule is removed.
    - ``reset``: the connection is reset. ``expired_iterator``: what GetRecords answers to an old iterator.
    - ``partial``: PutRecords refuses this ``share`` of its records.

    ``performed``: the request is performed all the same, and its true answer is lost. ``count`` ends the rule after so
    many requests, None never does; ``probability`` and ``seed`` choose requests by chance, the same ones each time.
    ``match`` must be contained in the path of the request as it is written there, or in its body.
    """

    kind: Kind
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
    def parse(cls, spec: Any) -> Fault:
        """Read a rule as JSON gives it; ``ValueError`` names what is wrong."""
        if not isinstance(spec, dict):
            raise ValueError("a fault is an object")  # noqa: TRY004  # one kind of error for whatever JSON brings
        if unknown := sorted(spec.keys() - _TYPES.keys()):
            raise ValueError(f"unknown: {', '.join(unknown)}; there are {', '.join(_TYPES)}")
        if spec.get("kind") not in KINDS:
            raise ValueError(f"kind: {spec.get('kind')!r} is none of {', '.join(KINDS)}")
        for name, value in spec.items():
            if not isinstance(value, _TYPES[name]) or isinstance(value, bool) != (_TYPES[name] is bool):
                raise ValueError(f"{name}: {value!r} is of the wrong type")
        fault = cls(**spec)
        fault.dice.seed(fault.seed)
        return fault

    def concerns(self, service: str, operation: str, *texts: bytes) -> bool:
        return (
            self.service in ("", service)
            and self.operation in ("", operation)
            and (not self.match or any(self.match.encode() in text for text in texts))
            and (self.count is None or self.hits < self.count)
        )

    def to_dict(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("over", "dice")}


class Faults:
    """The rules in force, in the order they came; the first that concerns a request, and falls, is used."""

    def __init__(self) -> None:
        self._rules: dict[int, Fault] = {}
        self._ids = itertools.count(1)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def add(self, fault: Fault) -> Fault:
        fault.id = next(self._ids)
        self._rules[fault.id] = fault
        return fault

    def remove(self, fault_id: int | None = None) -> list[Fault]:
        """End one rule, or all, and whatever they hold up; the rules as they were."""
        chosen = list(self._rules) if fault_id is None else [fault_id]
        removed = [self._rules.pop(number) for number in chosen if number in self._rules]
        for fault in removed:
            fault.over.set()
        return removed

    def all(self) -> list[Fault]:
        return list(self._rules.values())

    def pick(self, service: str, operation: str, *texts: bytes) -> Fault | None:
        """The rule for this request, which counts as a hit."""
        for fault in self._rules.values():
            if fault.concerns(service, operation, *texts) and fault.dice.random() < fault.probability:
                fault.hits += 1
                return fault
        return None
