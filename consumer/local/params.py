"""Reads a request's parameters, refusing what AWS's API model refuses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from consumer.local.errors import AwsError, validation

NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")


class Params:
    """A request's body. Each reader returns a value of its type, or raises AWS's error for it."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.body = body

    def __contains__(self, key: str) -> bool:
        return self.body.get(key) is not None

    def _of(self, key: str, kind: type | tuple[type, ...]) -> Any:
        value = self.body.get(key)
        if value is None:
            return None
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise AwsError("SerializationException", f"{key} can not be converted from {type(value).__name__}")
        return value

    def text(self, key: str) -> str:
        """A required text."""
        value = self.maybe_text(key)
        if value is None:
            raise validation(key, None, "Member must not be null")
        return value

    def maybe_text(self, key: str) -> str | None:
        value: str | None = self._of(key, str)
        return value

    def name(self, key: str) -> str:
        """A required name of a stream or consumer."""
        value = self.text(key)
        if not NAME.fullmatch(value):
            raise validation(key, value, "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+")
        return value

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.text(key)
        if value not in choices:
            raise validation(key, value, f"Member must satisfy enum value set: [{', '.join(choices)}]")
        return value

    def integer(self, key: str, least: int, most: int, default: int | None = None) -> int:
        """An integer within ``least`` … ``most``; required where there is no default."""
        value: int | None = self._of(key, int)
        if value is None:
            if default is None:
                raise validation(key, None, "Member must not be null")
            return default
        if value < least:
            raise validation(key, value, f"Member must have value greater than or equal to {least}")
        if value > most:
            raise validation(key, value, f"Member must have value less than or equal to {most}")
        return value

    def time_s(self, key: str) -> float | None:
        """A point in time in epoch seconds; the codec has made it so."""
        value: int | float | None = self._of(key, (int, float))
        return None if value is None else float(value)

    def group(self, key: str) -> Params | None:
        value = self._of(key, dict)
        return None if value is None else Params(value)

    def groups(self, key: str) -> list[dict[str, Any]]:
        value = self._of(key, list)
        if value is None:
            raise validation(key, None, "Member must not be null")
        if not all(isinstance(item, dict) for item in value):
            raise AwsError("SerializationException", f"{key} must hold structures")
        return list(value)

    def texts(self, key: str) -> list[str]:
        value = self._of(key, list)
        if value is None:
            raise validation(key, None, "Member must not be null")
        if not all(isinstance(item, str) for item in value):
            raise AwsError("SerializationException", f"{key} must hold strings")
        return list(value)

    def tags(self, key: str) -> dict[str, str]:
        value = self._of(key, dict)
        return {} if value is None else {str(name): str(text) for name, text in value.items()}
