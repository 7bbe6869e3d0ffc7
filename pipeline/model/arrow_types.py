"""The types in which a model's columns are stored: those that Parquet and its readers share.

A view is stored as what it is a view of; a dictionary as its values, since Parquet makes its own. Everything is
nullable in a file; the schema's ``nullable=False`` is enforced when values are converted.
"""

from __future__ import annotations

import pyarrow as pa

from pipeline.errors import ModelError


def kept(schema: pa.Schema, name: str) -> pa.Schema:
    """Return the schema that values are converted to: views and dictionaries resolved, ``nullable`` as in the model.

    ``name`` is the model's, for the error's text.

    :raises ModelError: a type cannot be stored.
    """
    return pa.schema([field.with_type(_resolved(field.type, field.name, name)) for field in schema])


def nullable(schema: pa.Schema) -> pa.Schema:
    """Return the same schema with everything nullable, at every depth, except the keys of maps."""
    return pa.schema([pa.field(field.name, _nullable(field.type)) for field in schema])


def _resolved(kind: pa.DataType, column: str, name: str) -> pa.DataType:
    types = pa.types
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return _resolved(kind.value_type, column, name)
    if types.is_string_view(kind):
        return pa.string()
    if types.is_binary_view(kind):
        return pa.binary()
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        return _rebuilt(kind, [_field(kind.value_field, column, name)])
    why = _unstorable(kind)
    if why:
        raise ModelError(
            f"model.factory {name}: output_schema's column '{column}' has the type {kind}, which {why}; "
            "give it another type"
        )
    if not kind.num_fields:
        return kind
    return _rebuilt(kind, [_field(kind.field(place), column, name) for place in range(kind.num_fields)])


def _field(field: pa.Field, column: str, name: str) -> pa.Field:
    return field.with_type(_resolved(field.type, column, name))


def _unstorable(kind: pa.DataType) -> str:
    types = pa.types
    if types.is_null(kind):
        return "holds nothing"
    if types.is_union(kind) or types.is_interval(kind):
        return "Parquet cannot hold"
    if isinstance(kind, pa.BaseExtensionType):
        return f"other readers do not know: it is stored as {kind.storage_type}"
    if types.is_struct(kind) and not kind.num_fields:
        return "has no field"
    if types.is_map(kind) and kind.key_type.num_fields:
        return "has keys that are lists, structs or maps"
    if (types.is_fixed_size_list(kind) and not kind.list_size) or (
        types.is_fixed_size_binary(kind) and not kind.byte_width
    ):
        return "has no size"
    return ""


def _rebuilt(kind: pa.DataType, children: list[pa.Field]) -> pa.DataType:
    types = pa.types
    if types.is_struct(kind):
        return pa.struct(children)
    if types.is_map(kind):
        entries = children[0].type
        return pa.map_(entries.field(0), entries.field(1), keys_sorted=kind.keys_sorted)
    if types.is_fixed_size_list(kind):
        return pa.list_(children[0], kind.list_size)
    is_large = types.is_large_list(kind) or types.is_large_list_view(kind)
    return pa.large_list(children[0]) if is_large else pa.list_(children[0])


def _nullable(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_map(kind):
        item = kind.item_field
        return pa.map_(_nullable(kind.key_type), item.with_type(_nullable(item.type)).with_nullable(True))
    if not kind.num_fields:
        return kind
    fields = [kind.field(place) for place in range(kind.num_fields)]
    return _rebuilt(kind, [field.with_type(_nullable(field.type)).with_nullable(True) for field in fields])


def is_number(kind: pa.DataType) -> bool:
    """Whether the type is an integer or a float."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether the type is a string with 32-bit or 64-bit offsets."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_bytes(kind: pa.DataType) -> bool:
    """Whether the type is binary, of variable or fixed size."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))
