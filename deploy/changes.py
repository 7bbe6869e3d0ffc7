"""Compares rendered parameters with those of a stack: what a deployment would change. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ParameterChange:
    """A parameter ``name`` that is ``now`` in the stack and would be ``then``. None: the stack does not have it."""

    name: str
    now: str | None
    then: str


def deployed(stack: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters of a stack, as ``DescribeStacks`` describes it."""
    return {given["ParameterKey"]: given["ParameterValue"] for given in stack.get("Parameters", ())}


def changes(now: Mapping[str, str], then: Mapping[str, str]) -> list[ParameterChange]:
    """Return what differs, in the order of ``then``. What is not rendered keeps its value, and is no change."""
    return [ParameterChange(name, now.get(name), value) for name, value in then.items() if now.get(name) != value]


def given(pairs: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Return parameters written as ``NAME=VALUE``.

    :raises ValueError: in one line, for another form or a name that is not ``known``.
    """
    known = list(known)
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{pair!r} is not a parameter. Write NAME=VALUE")
        if name not in known:
            raise ValueError(f"the template has no parameter {name}. It has {', '.join(known)}")
        found[name] = value
    return found
