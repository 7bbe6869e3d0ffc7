"""Does once what moto repeats for each request. KCL and its operators call DynamoDB many times a second."""

from __future__ import annotations

import string
from collections.abc import Callable
from copy import copy
from functools import cache
from typing import Any

LETTERS, DIGITS = string.ascii_letters, string.digits
PLAIN = {"S": str, "N": str, "BOOL": bool}
"""The DynamoDB types, by the name that an attribute value has for them, whose values JSON holds as moto does."""


def improve() -> None:
    """Replace some functions of moto, once. The answers stay the same.

    For each attribute of an item, moto looks for each of the ten types of a value under four names. Items of a lease
    table have twenty attributes, and this is more than half of the time of a scan.
    """
    import moto.backends
    import moto.core.responses
    from moto.core.serialize import BaseJSONSerializer, ResponseSerializer
    from moto.dynamodb.models.dynamo_type import DynamoType, Item
    from moto.moto_api._internal.moto_random import MotoRandom

    if hasattr(BaseJSONSerializer._serialize_type_structure, "__wrapped__"):
        return
    original = BaseJSONSerializer._serialize_type_structure
    BaseJSONSerializer._serialize_type_structure = quick_values(original)  # type: ignore[method-assign]
    ResponseSerializer.get_value = quick_members(ResponseSerializer.get_value)  # type: ignore[method-assign]
    MotoRandom.get_random_string = random_string  # type: ignore[method-assign]
    DynamoType.to_regular_json = quick_json(DynamoType.to_regular_json)  # type: ignore[method-assign]
    Item.project = quick_project(Item.project)  # type: ignore[method-assign]
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


def quick_members(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``original``, which looks for a member of an answer, with a short way for members of a ``dict``.

    The names under which moto looks for a member do not depend on the ``dict``, so they are kept with the member.
    """
    from moto.core.serialize import AttributePickerContext, XFormedAttributePicker

    def names_of(picker: Any, shape: Any, key: str) -> tuple[str, ...]:
        names = tuple(picker.get_possible_keys(AttributePickerContext({}, key, shape)))
        shape.penstock_names = key, names
        return names

    def get_value(self: Any, value: Any, key: str, shape: Any) -> Any:
        picker = self._value_picker
        if type(value) is not dict or type(picker) is not XFormedAttributePicker or picker.response_transformers:
            return original(self, value, key, shape)
        known, names = getattr(shape, "penstock_names", ("", ()))
        for name in names if known == key else names_of(picker, shape, key):
            if name in value:
                return value[name]
        return None

    get_value.__wrapped__ = original  # type: ignore[attr-defined]
    return get_value


def quick_json(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``original``, which copies an attribute value as JSON, with a short way for values that need no copy."""

    def to_regular_json(self: Any) -> Any:
        return {self.type: self.value} if self.type in PLAIN else original(self)

    to_regular_json.__wrapped__ = original  # type: ignore[attr-defined]
    return to_regular_json


def quick_project(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``original``, which selects attributes of an item, so that it does not copy the other ones.

    It copies the whole item for each attribute that it selects. KCL queries an index, which selects the keys.
    """

    def project(self: Any, projection_expressions: list[list[str]]) -> Any:
        begins = [path[0] for path in projection_expressions]
        some = copy(self)
        some.attrs = {name: self.attrs[name] for name in self.attrs if any(path.startswith(name) for path in begins)}
        return original(some, projection_expressions)

    project.__wrapped__ = original  # type: ignore[attr-defined]
    return project


def random_string(self: Any, length: int = 20, include_digits: bool = True, lower_case: bool = False) -> str:
    """Return a random text, such as the id of a request, in one step instead of one for each character."""
    text = "".join(self.choices(LETTERS + DIGITS if include_digits else LETTERS, k=length))
    return text.lower() if lower_case else text


def is_plain(value: object) -> bool:
    """Whether an attribute value is a text, a number or a truth value, as JSON holds it."""
    if type(value) is not dict or len(value) != 1:
        return False
    [(name, content)] = value.items()
    return type(content) is PLAIN.get(name)
