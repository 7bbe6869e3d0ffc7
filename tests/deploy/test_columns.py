"""The columns of a model in the template's table, with Athena's types for what Parquet stores."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from consumer.cli import main
from deploy import templates
from deploy.templates import athena_type, columns, parameter_names, template, with_columns
from pipeline.errors import UserError
from pipeline.table.schema import IDENTITY, encode
from tests.support.cloudformation import TEMPLATE, parsed, read

ODD = 'a "b": {c}'


def columns_of(text: str) -> list[tuple[str, str]]:
    table = parsed(text)["Resources"]["Table"]["Properties"]["TableInput"]
    return [(each["Name"], each["Type"]) for each in table["StorageDescriptor"]["Columns"]]


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (pa.string(), "string"),
        (pa.float32(), "float"),
        (pa.uint8(), "smallint"),
        (pa.uint16(), "int"),
        (pa.timestamp("us"), "timestamp"),
        (pa.decimal128(10, 2), "decimal(10,2)"),
        (pa.dictionary(pa.int8(), pa.string()), "string"),
        (pa.list_(pa.float32(), 384), "array<float>"),
        (
            pa.list_(pa.struct([("label", pa.string()), ("at", pa.list_(pa.int32()))])),
            "array<struct<label:string,at:array<int>>>",
        ),
        (pa.map_(pa.string(), pa.float64()), "map<string,double>"),
    ],
)
def test_types(kind: pa.DataType, wanted: str) -> None:
    assert athena_type(kind, "column") == wanted


@pytest.mark.parametrize(
    "kind", [pa.uint32(), pa.uint64(), pa.float16(), pa.time64("us"), pa.duration("s"), pa.list_(pa.uint64())]
)
def test_a_type_that_athena_cannot_read_is_refused(kind: pa.DataType) -> None:
    with pytest.raises(UserError, match=r"column 'score' has the type .* Change model.output_schema"):
        athena_type(kind, "score")


def test_unsigned_integers_are_stored_as_the_types_assume() -> None:
    """As signed 32 bits with a mark: Athena's type holds all values of those that have one."""
    kinds = [pa.uint8(), pa.uint16(), pa.uint32()]
    rows = pa.table({str(kind): pa.array([1], kind) for kind in kinds})
    stored = pq.ParquetFile(pa.BufferReader(encode(rows, {}))).schema
    assert [stored.column(place).physical_type for place in range(3)] == ["INT32"] * 3


def test_the_template_gets_the_columns_after_our_own_and_stays_right() -> None:
    ours = columns_of(template())
    assert [name for name, _ in ours] == IDENTITY.names
    given = [("label", "string"), (ODD, "array<float>")]
    text = with_columns(with_columns(template(), [("old", "int")]), given)
    assert columns_of(text) == [*ours, *given]


def test_a_name_that_glue_does_not_take_is_refused() -> None:
    with pytest.raises(UserError, match="a name that Glue does not take"):
        columns(pa.schema([("a/b", pa.int64())]))


def test_the_names_of_parameters_are_those_of_the_template() -> None:
    assert parameter_names(template()) == list(read(TEMPLATE)["Parameters"])


def test_the_command_writes_the_template_with_what_the_model_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "penstock.toml").write_text("""
[stream]
name = "events"
application = "penstock-events"
[model]
factory = "tests.e2e.models:Echo"
version = "1"
passthrough = { user = "string" }
[[sink]]
type = "parquet"
url = "s3://bucket/enriched"
[dead_letter]
url = "s3://bucket/dead-letter"
""")
    words = ["deploy", "render", "--config", str(tmp_path / "penstock.toml"), "--template"]
    result = CliRunner().invoke(main, [*words, str(tmp_path / "stack.yaml")])
    assert result.exit_code == 0, result.output
    found = columns_of((tmp_path / "stack.yaml").read_text())
    assert found[len(IDENTITY)] == ("user", "string")
    assert len(found) > len(IDENTITY) + 1
    assert "stack.yaml: the template, with" in result.stderr
    assert "--s3-bucket" not in result.stderr
    monkeypatch.setattr(templates, "LARGEST_BYTES", 1000)
    assert "deploy it with --s3-bucket" in CliRunner().invoke(main, [*words, str(tmp_path / "stack.yaml")]).stderr
    refused = CliRunner().invoke(main, [*words, str(tmp_path / "none" / "stack.yaml")])
    assert refused.exit_code == 2 and "cannot be written" in refused.output
