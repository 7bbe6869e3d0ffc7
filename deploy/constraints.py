"""Checks parameters against a template as CloudFormation does: patterns, values, bounds and rules. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from deploy.yaml_subset import section


def defaults(text: str) -> dict[str, str]:
    """Return the parameters of a template that have a default, with it."""
    return {name: said["Default"] for name, said in section(text, "Parameters").items() if "Default" in said}


def mistakes(text: str, given: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each given value that CloudFormation would refuse, and for each rule that does not hold.

    Parameters that are not given have their defaults.
    """
    declared = section(text, "Parameters")
    wrong = {name: why for name, value in given.items() if (why := _refusal(declared[name], value))}
    for name, why in wrong.items():
        yield f"{name}={given[name]}: the template takes {why}"
    values = {name: _value(declared[name], value) for name, value in (defaults(text) | {**given}).items()}
    for rule in section(text, "Rules").values():
        used = _references(rule)
        if used & wrong.keys() or not _result(rule.get("RuleCondition", True), values):
            continue
        for each in rule["Assertions"]:
            if not _result(each["Assert"], values):
                shown = ", ".join(f"{name}={given.get(name, defaults(text).get(name))}" for name in sorted(used))
                yield f"{shown}: {each['AssertDescription']}"


def _refusal(declared: Mapping[str, Any], value: str) -> str:
    """What the parameter takes instead; empty if it takes the value."""
    allowed = declared.get("AllowedValues")
    if allowed and value not in allowed:
        return " or ".join(filter(None, [", ".join(allowed[:-1]), allowed[-1]]))
    pattern = declared.get("AllowedPattern")
    if pattern and not re.fullmatch(pattern, value):
        return f"what matches {pattern}"
    if declared["Type"] != "Number":
        return ""
    least, most = (declared.get(bound) for bound in ("MinValue", "MaxValue"))
    if not re.fullmatch(r"-?\d+(\.\d+)?", value):
        return "a number"
    if (least is not None and float(value) < float(least)) or (most is not None and float(value) > float(most)):
        return f"{least} to {most}" if least is not None and most is not None else f"{least} or more"
    return ""


def _value(declared: Mapping[str, Any], value: str) -> str | list[str]:
    return value.split(",") if declared["Type"].endswith("List") or "List<" in declared["Type"] else value


def _references(part: Any) -> set[str]:
    if isinstance(part, Mapping):
        own = {part["Ref"]} if "Ref" in part else set()
        return own.union(*map(_references, part.values()))
    return set().union(*map(_references, part)) if isinstance(part, list) else set()


def _result(part: Any, values: Mapping[str, Any]) -> Any:
    """The value of a condition of a rule."""
    if isinstance(part, list):
        return [_result(each, values) for each in part]
    if not isinstance(part, Mapping):
        return part
    [(name, given)] = part.items()
    if name == "Ref":
        return values.get(given, "")
    return FUNCTIONS[name](_result(given, values))


FUNCTIONS: dict[str, Any] = {
    "Fn::Equals": lambda args: args[0] == args[1],
    "Fn::Not": lambda args: not args[0],
    "Fn::And": all,
    "Fn::Or": any,
    "Fn::Contains": lambda args: args[1] in args[0],
    "Fn::EachMemberIn": lambda args: {*args[0]} <= {*args[1]},
}
"""The functions of CloudFormation in the rules of the templates."""
