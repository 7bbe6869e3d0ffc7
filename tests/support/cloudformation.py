"""A CloudFormation template as a stack: with parameters, conditions and references resolved."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import yaml

TEMPLATE = Path(__file__).parents[2] / "deploy" / "cloudformation" / "penstock.yaml"
OPERATORS = TEMPLATE.with_name("operators.yaml")

PSEUDO = {"AWS::Region": "eu-west-1", "AWS::AccountId": "123456789012", "AWS::Partition": "aws"}

GONE = object()
"""The value of ``AWS::NoValue``."""


class Stack:
    """``Ref`` and ``GetAtt`` of a resource come to its logical name: ``Bucket``, ``Bucket.Arn``.

    ``beside``: the stack whose exports are imported.
    """

    def __init__(
        self, parameters: Mapping[str, Any] | None = None, path: Path = TEMPLATE, *, beside: Stack | None = None
    ) -> None:
        template = self.template = read(path)
        self.parameters = {
            name: given["Default"] for name, given in template["Parameters"].items() if "Default" in given
        } | dict(parameters or {})
        assert self.parameters.keys() == template["Parameters"].keys()
        self._imports = beside.exports if beside else {}

    @property
    def exports(self) -> dict[str, Any]:
        """By name."""
        given = self.resolved(self.template["Outputs"])
        return {each["Export"]["Name"]: each["Value"] for each in given.values() if "Export" in each}

    @property
    def resources(self) -> dict[str, Any]:
        """The resources that are created, resolved."""
        return {name: self.resource(name) for name in self.template["Resources"] if self.is_made(name)}

    def resource(self, name: str) -> dict[str, Any]:
        """One of them, resolved."""
        found: dict[str, Any] = self.resolved(self.template["Resources"][name])
        return found

    def is_made(self, name: str) -> bool:
        condition = self.template["Resources"][name].get("Condition")
        return condition is None or self.holds(condition)

    def of_type(self, kind: str) -> dict[str, Any]:
        return {name: each["Properties"] for name, each in self.resources.items() if each["Type"] == kind}

    def holds(self, condition: str) -> bool:
        return bool(self.resolved(self.template["Conditions"][condition]))

    def accepts(self, rule: str) -> bool:
        """Whether the parameters pass an entry of ``Rules``."""
        given = self.template["Rules"][rule]
        if "RuleCondition" in given and not self.resolved(given["RuleCondition"]):
            return True
        return all(self.resolved(each["Assert"]) for each in given["Assertions"])

    def mistakes(self) -> list[str]:
        """Parameters that CloudFormation would refuse, and rules that do not hold."""
        wrong = [name for name, value in self.parameters.items() if not takes(self.template["Parameters"][name], value)]
        return wrong + [rule for rule in self.template.get("Rules", ()) if not self.accepts(rule)]

    def decided(self, value: Any) -> Any:
        """``value`` with each ``Fn::If`` decided and what is left out left out; other functions stay."""
        if isinstance(value, list):
            return [found for each in value if (found := self.decided(each)) is not GONE]
        if not isinstance(value, Mapping):
            return value
        if name_of(value) == "Fn::If":
            condition, then, otherwise = value["Fn::If"]
            return self.decided(then if self.holds(condition) else otherwise)
        if dict(value) == {"Ref": "AWS::NoValue"}:
            return GONE
        return {key: found for key, each in value.items() if (found := self.decided(each)) is not GONE}

    def resolved(self, value: Any) -> Any:
        if isinstance(value, list):
            return [found for each in value if (found := self.resolved(each)) is not GONE]
        if not isinstance(value, Mapping):
            return value
        name = name_of(value)
        if name.startswith("Fn::") or (name in ("Ref", "Condition") and isinstance(value[name], str)):
            return self._call(name, value[name])
        return {key: found for key, each in value.items() if (found := self.resolved(each)) is not GONE}

    def _call(self, name: str, given: Any) -> Any:
        if name == "Ref":
            return GONE if given == "AWS::NoValue" else self._named(given)
        if name == "Condition":
            return self.holds(given)
        if name == "Fn::If":
            return self.resolved(given[1] if self.holds(given[0]) else given[2])
        if name == "Fn::GetAtt":
            return given if isinstance(given, str) else ".".join(given)
        args = self.resolved(given)
        if name == "Fn::Sub":
            pattern, names = (args, {}) if isinstance(args, str) else args
            text = re.sub(r"\$\{([^!}]+)\}", lambda found: str(names.get(found[1], self._named(found[1]))), pattern)
            return text.replace("${!", "${")
        if name == "Fn::ImportValue":
            return self._imports[args]
        return FUNCTIONS[name](args)

    def _named(self, name: str) -> Any:
        return {**PSEUDO, **self.parameters}.get(name, name)


def takes(declared: Mapping[str, Any], value: Any) -> bool:
    """Whether a parameter may have this value, by its declaration."""
    text = ",".join(value) if isinstance(value, list) else str(value)
    number = float(text) if declared["Type"] == "Number" else None
    return (
        (number is None or declared.get("MinValue", number) <= number <= declared.get("MaxValue", number))
        and ("AllowedValues" not in declared or text in map(str, declared["AllowedValues"]))
        and re.fullmatch(declared.get("AllowedPattern", ".*"), text) is not None
    )


@cache
def read(path: Path) -> dict[str, Any]:
    """A template as it is written, its short functions (``!Ref``) in their long form."""
    return parsed(path.read_text())


def parsed(text: str) -> dict[str, Any]:
    template: dict[str, Any] = yaml.load(text, _Template)
    return template


class _Template(yaml.CSafeLoader):  # type: ignore[misc]  # yaml has no types
    """YAML with the functions of CloudFormation, no key twice. Dates are text, as in a policy's version."""

    yaml_implicit_resolvers: ClassVar = {
        first: [each for each in resolvers if each[0] != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        made: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        assert len(made) == len(node.value), f"a key is there twice\n{node.start_mark}"
        return made

    def function(self, name: str, node: yaml.Node) -> dict[str, Any]:
        if isinstance(node, yaml.ScalarNode):
            given: Any = self.construct_scalar(node)
        elif isinstance(node, yaml.SequenceNode):
            given = self.construct_sequence(node, deep=True)
        else:
            given = self.construct_mapping(node, deep=True)
        if name == "GetAtt" and isinstance(given, str):
            given = given.split(".", 1)
        return {name if name in ("Ref", "Condition") else f"Fn::{name}": given}


_Template.add_multi_constructor("!", _Template.function)


def name_of(value: Mapping[str, Any]) -> str:
    return str(next(iter(value), "")) if len(value) == 1 else ""


FUNCTIONS: dict[str, Any] = {
    "Fn::Equals": lambda args: str(args[0]) == str(args[1]),
    "Fn::Not": lambda args: not args[0],
    "Fn::And": all,
    "Fn::Contains": lambda args: args[1] in args[0],
    "Fn::Join": lambda args: args[0].join(args[1]),
    "Fn::Split": lambda args: args[1].split(args[0]),
    "Fn::Select": lambda args: (args[0], args[1]),
    "Fn::GetAZs": lambda args: args,
}
