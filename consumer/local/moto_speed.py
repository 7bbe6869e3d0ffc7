"""Does once what moto repeats for each request. KCL and its operators call DynamoDB many times a second."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

PLAIN = {"S": str, "N": str, "BOOL": bool}
"""The DynamoDB types, by the name that an attribute value has for them, whose values JSON holds as moto does."""


def improve() -> None:
    """Replace three functions of moto, once. The answers stay the same.

    For each attribute of an item, moto looks for each of the ten types of a value under four names. Items of a lease
    table have twenty attributes, and this is more than half of the time of a scan.
    """
    import moto.backends
    import moto.core.responses
    from moto.core.serialize import BaseJSONSerializer

    if hasattr(BaseJSONSerializer._serialize_type_structure, "__wrapped__"):
        return
    original = BaseJSONSerializer._serialize_type_structure
    BaseJSONSerializer._serialize_type_structure = quick_values(original)  # type: ignore[method-assign]
    modules = tuple(moto.backends.list_of_moto_modules())
    moto.backends.list_of_moto_modules = lambda: modules
    moto.core.responses.method_names_from_class = cache(moto.core.responses.method_names_from_class)  # type: ignore[attr-defined]


def quick_values(original: Callable[..., None]) -> Callable[..., None]:
    """Return ``original``, a serializer of structures, with a short way for plain attribute values of DynamoDB."""

    def serialize(self: Any, serialized: Any, value: Any, shape: Any, key: str) -> None:
        if key and shape.name == "AttributeValue" and is_plain(value):
            self._default_serialize(serialized, value, shape, key)
        else:
            original(self, serialized, value, shape, key)

    serialize.__wrapped__ = original  # type: ignore[attr-defined]
    return serialize


def is_plain(value: object) -> bool:
    """Whether an attribute value is a text, a number or a truth value, as JSON holds it."""
    if type(value) is not dict or len(value) != 1:
        return False
    [(name, content)] = value.items()
    return type(content) is PLAIN.get(name)
