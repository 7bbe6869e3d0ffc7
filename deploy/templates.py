"""The CloudFormation templates as text, and the columns of a table in them, with Athena's types."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

import pyarrow as pa

from pipeline.errors import UserError

BEGIN, END = "          # begin columns of the model\n", "          # end columns of the model\n"
"""The lines of the template between which the model's columns are."""

LARGEST_BYTES = 51_200
"""Of a template that CreateStack takes without a bucket (AWS, CreateStack)."""

_PLAIN = {
    pa.bool_(): "boolean",
    pa.int8(): "tinyint",
    pa.int16(): "smallint",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.uint8(): "smallint",
    pa.uint16(): "int",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.string(): "string",
    pa.large_string(): "string",
    pa.binary(): "binary",
    pa.large_binary(): "binary",
    pa.date32(): "date",
}


def athena_type(kind: pa.DataType, column: str) -> str:
    """Return the type of a column in Athena's words, such as ``array<float>``.

    The writer stores uint8, uint16 and uint32 as 32 bits that are marked as unsigned. A reader that ignores the mark
    reads the first two correctly, but negative numbers from 2**31 on, so uint32 is refused, as is uint64.

    :raises UserError: Athena cannot read the type.
    """
    if found := _PLAIN.get(kind):
        return found
    types = pa.types
    if types.is_timestamp(kind):
        return "timestamp"
    if types.is_decimal(kind) and kind.precision <= 38:
        return f"decimal({kind.precision},{kind.scale})"
    if types.is_dictionary(kind):
        return athena_type(kind.value_type, column)
    if types.is_fixed_size_binary(kind):
        return "binary"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return f"array<{athena_type(kind.value_type, column)}>"
    if types.is_map(kind):
        return f"map<{athena_type(kind.key_type, column)},{athena_type(kind.item_type, column)}>"
    if types.is_struct(kind):
        fields = [kind.field(place) for place in range(kind.num_fields)]
        return f"struct<{','.join(f'{field.name}:{athena_type(field.type, column)}' for field in fields)}>"
    instead = ": use int64" if types.is_unsigned_integer(kind) else ""
    raise UserError(
        f"column {column!r} has the type {kind}, which Athena cannot read. Change model.output_schema{instead}"
    )


def columns(rows: pa.Schema) -> list[tuple[str, str]]:
    """Return name and Athena's type of each column.

    :raises UserError: Athena cannot read a column, or Glue does not accept its name.
    """
    found = [(field.name, athena_type(field.type, field.name)) for field in rows]
    for name, _ in found:
        if not re.fullmatch(r"[\w .-]{1,255}", name):
            raise UserError(f"column {name!r} has a name that Glue does not take. Change model.output_schema")
    return found


def template(*, gpu: bool = False) -> str:
    """Return a CloudFormation template as it is shipped: for Fargate, or for instances with GPUs."""
    name = "gpu.yaml" if gpu else "penstock.yaml"
    return (files("deploy") / "cloudformation" / name).read_text(encoding="utf-8")


def with_columns(text: str, given: Iterable[tuple[str, str]]) -> str:
    """Return a template in which these columns of the model replace its own."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    lines = [f"            - {{Name: {_quoted(name)}, Type: {_quoted(kind)}}}\n" for name, kind in given]
    return "".join([before, begin, *lines, end, after])


def parameter_names(text: str) -> list[str]:
    """Return the names of a template's parameters."""
    section = re.split(r"(?m)^\w", text.partition("\nParameters:\n")[2])[0]
    return re.findall(r"(?m)^  (\w+):$", section)


def _quoted(value: Any) -> str:
    """A YAML string in double quotes, which is a JSON string."""
    import json

    return json.dumps(value, ensure_ascii=False)
