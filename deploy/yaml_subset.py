"""Reads the part of YAML in which the templates are written, so that ``penstock deploy`` needs no YAML library. Pure.

Blocks of mappings and lists, ``[a, b]``, ``{a: b}``, text in double quotes, and CloudFormation's short functions.
Numbers stay text. A test compares the result for every template with that of cfn-lint.
"""

from __future__ import annotations

import json
import re
from typing import Any

_KEY = re.compile(r"([\w:.-]+):(?: +(.*))?$")
_PLAIN = re.compile(r"[^,\]}]*")
_PLAIN_KEY = re.compile(r"\s*([\w:.-]+):\s*")
_TAG = re.compile(r"!(\w+)\s*")


def section(text: str, name: str) -> Any:
    """Return what is under a key of the first level; {} if there is none."""
    found = re.search(rf"(?m)^{name}:\n((?:(?:[ #].*)?\n)*)", text)
    if found is None:
        return {}
    lines = [line for line in found[1].splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return _block([(len(line) - len(line.lstrip()), line.strip()) for line in lines])


def _block(lines: list[tuple[int, str]]) -> Any:
    """The value of lines, each with its indent."""
    groups = _groups(lines)
    if lines[0][1].startswith("- "):
        return [_block([(lines[0][0] + 2, first[1][2:].strip()), *rest]) for first, *rest in groups]
    if len(groups) == 1 and not _KEY.match(lines[0][1]):
        return _value(lines[0][1], lines[1:])
    found = {}
    for (_, text), *rest in groups:
        key, value = _KEY.fullmatch(text).groups()  # type: ignore[union-attr]  # the templates are ours
        found[key] = _value(value or "", rest)
    return found


def _groups(lines: list[tuple[int, str]]) -> list[list[tuple[int, str]]]:
    """Each line of the first one's indent, with those that are indented further."""
    found: list[list[tuple[int, str]]] = []
    for line in lines:
        if line[0] == lines[0][0]:
            found.append([])
        found[-1].append(line)
    return found


def _value(text: str, rest: list[tuple[int, str]]) -> Any:
    if rest and (tag := _TAG.fullmatch(text)):
        return _called(tag[1], _block(rest))
    if rest:
        return _block(rest)
    return _flow(text, 0)[0] if text[:1] in tuple('[{"!') else text


def _flow(text: str, at: int) -> tuple[Any, int]:
    """The value at a place in a line, and the place after it."""
    at += len(text[at:]) - len(text[at:].lstrip())
    if text[at] == '"':
        return json.JSONDecoder().raw_decode(text, at)
    if tag := _TAG.match(text, at):
        value, at = _flow(text, tag.end())
        return _called(tag[1], value), at
    if text[at] not in "[{":
        found = _PLAIN.match(text, at)
        assert found
        return found[0].strip(), found.end()
    return _several(text, at)


def _several(text: str, at: int) -> tuple[Any, int]:
    is_list, at = text[at] == "[", at + 1
    items: list[Any] = []
    pairs: dict[str, Any] = {}
    while text[at:].lstrip()[0] not in "]}":
        if key := None if is_list else _PLAIN_KEY.match(text, at):
            pairs[key[1]], at = _flow(text, key.end())
        else:
            value, at = _flow(text, at)
            items.append(value)
        at += len(text[at:]) - len(text[at:].lstrip(", "))
    at = text.index("]" if is_list else "}", at) + 1
    return (items if is_list else pairs), at


def _called(tag: str, value: Any) -> dict[str, Any]:
    return {tag if tag in ("Ref", "Condition") else f"Fn::{tag}": value}
