"""The types of an API's members and their constraints, as the API models of AWS have them. Knows no operation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from consumer.local.kinesis.errors import malformed


class Shape(Protocol):
    """The type of a member, with its constraints."""

    def problems(self, value: Any, path: str) -> Iterator[str]:
        """Yield each constraint that ``value`` violates, as AWS words it. ``path`` is the name of the member.

        :raises KinesisError: ``SerializationException`` if the value has the wrong type.
        """
        ...


def _failed(value: object, path: str, constraint: str) -> str:
    return f"Value '{value}' at '{path}' failed to satisfy constraint: Member must {constraint}"


TYPES = {
    str: "a string",
    int: "a whole number",
    float: "a number with a fraction or an exponent",
    bool: "a boolean",
    bytes: "bytes",
    list: "a list",
    dict: "a structure",
    type(None): "null",
}


def _of_type(value: object, kind: type, path: str) -> None:
    if type(value) is not kind:
        has = TYPES.get(type(value), f"of the type {type(value).__name__}")
        raise malformed(f"{path} must be {TYPES[kind]}; it is {has}")


@dataclass(frozen=True, slots=True)
class Text:
    """A string of ``least`` to ``most`` characters. If they are set, it matches ``pattern`` and is one of ``among``."""

    least: int = 0
    most: int = 2**31
    pattern: re.Pattern[str] | None = None
    among: tuple[str, ...] = ()

    def problems(self, value: Any, path: str) -> Iterator[str]:
        """See :class:`Shape`."""
        _of_type(value, str, path)
        if len(value) < self.least:
            yield _failed(value, path, f"have length greater than or equal to {self.least}")
        if len(value) > self.most:
            yield _failed(value, path, f"have length less than or equal to {self.most}")
        if self.pattern and not self.pattern.fullmatch(value):
            yield _failed(value, path, f"satisfy regular expression pattern: {self.pattern.pattern}")
        if self.among and value not in self.among:
            yield _failed(value, path, f"satisfy enum value set: [{', '.join(self.among)}]")


TOO_LARGE = 2.0**63
"""JSON numbers from here on have no exact value: the parser makes them floats."""


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number from ``least`` to ``most``."""

    least: int = 0
    most: int = 2**63

    def problems(self, value: Any, path: str) -> Iterator[str]:
        """See :class:`Shape`."""
        if isinstance(value, float) and abs(value) >= TOO_LARGE:
            raise malformed(f"{path} must be from {self.least} to {self.most}; it is {value}")
        _of_type(value, int, path)
        if value < self.least:
            yield _failed(value, path, f"have value greater than or equal to {self.least}")
        if value > self.most:
            yield _failed(value, path, f"have value less than or equal to {self.most}")


@dataclass(frozen=True, slots=True)
class Flag:
    """A boolean."""

    def problems(self, value: Any, path: str) -> Iterator[str]:
        """See :class:`Shape`."""
        _of_type(value, bool, path)
        yield from ()


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes of any length. Record sizes are checked per stream."""

    def problems(self, value: Any, path: str) -> Iterator[str]:
        """See :class:`Shape`."""
        _of_type(value, bytes, path)
        yield from ()


@dataclass(frozen=True, slots=True)
class Struct:
    """A structure. Members that are not listed are ignored, as AWS does."""

    required: tuple[str, ...]
    members: Mapping[str, Shape] = field(hash=False)

    def problems(self, value: Any, path: str) -> Iterator[str]:
        """See :class:`Shape`."""
        _of_type(value, dict, path or "the body")
        dot = f"{path}." if path else ""
        for name in self.required:
            if value.get(name) is None:
                yield _failed("null", dot + _lower(name), "not be null")
        for name, shape in self.members.items():
            member = value.get(name)
            if member is not None:
                yield from shape.problems(member, dot + _lower(name))


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list of ``least`` to ``most`` members."""

    member: Shape
    least: int
    most: int

    def problems(self, value: Any, path: str) -> Iterator[str]:
        """See :class:`Shape`."""
        _of_type(value, list, path)
        yield from _sized(value, path, self.least, self.most)
        for place, member in enumerate(value, 1):
            yield from self.member.problems(member, f"{path}.{place}.member")


@dataclass(frozen=True, slots=True)
class MapOf:
    """A map of ``least`` to ``most`` entries."""

    key: Shape
    value: Shape
    least: int
    most: int

    def problems(self, value: Any, path: str) -> Iterator[str]:
        """See :class:`Shape`."""
        _of_type(value, dict, path)
        yield from _sized(value, path, self.least, self.most)
        for key, member in value.items():
            yield from self.key.problems(key, f"{path}.key")
            yield from self.value.problems(member, f"{path}.{key}.member")


def _sized(value: Any, path: str, least: int, most: int) -> Iterator[str]:
    if len(value) < least:
        yield _failed(f"[{len(value)} members]", path, f"have length greater than or equal to {least}")
    if len(value) > most:
        yield _failed(f"[{len(value)} members]", path, f"have length less than or equal to {most}")


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:] if not name.startswith("ARN") else name
