"""Settings come from a file and from the environment."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from consumer.config.errors import ConfigErrors
from consumer.config.load import load, parse
from consumer.config.settings import Settings
from consumer.config.sink_settings import KinesisSinkSettings, ParquetSettings
from pipeline.errors import UserError
from tests.support.least_configuration import LEAST


def settings_with(env: Mapping[str, str]) -> Settings:
    return parse(tomllib.loads(LEAST), env)


def told(env: Mapping[str, str]) -> list[str]:
    """The mistakes that these variables make."""
    try:
        settings_with(env)
    except ConfigErrors as errors:
        return [str(error) for error in errors.errors]
    return []


def test_the_environment_overrides_numbers_strings_tables_and_sinks() -> None:
    settings = settings_with(
        {
            "PENSTOCK_BATCH__MAX_RECORDS": "8",
            "PENSTOCK_STREAM__NAME": "123",
            "PENSTOCK_MODEL__REPLICAS": "auto",
            "PENSTOCK_MODEL__PASSTHROUGH": '{text = "string"}',
            "PENSTOCK_MODEL__OPTIONS__DEVICE": "cpu",
            "PENSTOCK_MODEL__OPTIONS__DEPTH": "3",
            "PENSTOCK_SINK__0__URL": "s3://bucket/elsewhere",
            "PENSTOCK_SINK__1__TYPE": "kinesis",
            "PENSTOCK_SINK__1__STREAM": "42",
        }
    )
    assert settings.batch.max_records == 8
    assert settings.stream.name == "123"
    assert settings.model.passthrough == {"text": "string"}
    assert settings.model.options == {"device": "cpu", "depth": 3}
    assert [sink.type for sink in settings.sink] == ["parquet", "kinesis"]
    assert settings.sink[0] == ParquetSettings(type="parquet", url="s3://bucket/elsewhere")
    assert settings.sink[1] == KinesisSinkSettings(type="kinesis", stream="42")


def test_keys_of_the_file_are_found_in_any_case() -> None:
    raw = tomllib.loads(LEAST + "[kcl.properties]\nmaxRecords = 5\n")
    settings = parse(raw, {"PENSTOCK_KCL__PROPERTIES__MAXRECORDS": "7"})
    assert settings.kcl.properties == {"maxRecords": 7}


def test_a_mistake_in_the_environment_names_the_variable() -> None:
    with pytest.raises(ConfigErrors) as raised:
        settings_with({"PENSTOCK_BATCH__MAX_RECORDS": "many"})
    assert '"many" is not a whole number' in str(raised.value)
    assert str(raised.value).endswith("(set by PENSTOCK_BATCH__MAX_RECORDS)")


@pytest.mark.parametrize(
    ("variable", "key"),
    [
        ("PENSTOCK_BACH__X", "bach"),
        ("PENSTOCK_BATCH__MAXRECORDS", "batch.maxrecords"),
        ("PENSTOCK_SINK__7__URL", "sink.7.url"),
    ],
)
def test_a_variable_that_means_nothing_is_a_mistake(variable: str, key: str) -> None:
    with pytest.raises(ConfigErrors) as raised:
        settings_with({variable: "1"})
    assert [error.key for error in raised.value.errors] == [key]


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("PENSTOCK_BATCH_MAX_RECORDS", "PENSTOCK_BATCH__MAX_RECORDS"),
        ("PENSTOCK_IN_FLIGHT_TOTAL_MIB", "PENSTOCK_IN_FLIGHT__TOTAL_MIB"),
        ("PENSTOCK_HEALTH_PORT", "PENSTOCK_HEALTH__PORT"),
        ("PENSTOCK_BATCH", "PENSTOCK_BATCH__<KEY>"),
        ("PENSTOCK_STREAM__", "PENSTOCK_STREAM__<KEY>"),
        ("PENSTOCK_SINK_0_URL", "PENSTOCK_SINK__0__URL"),
        ("PENSTOCK_SINK_URL", "PENSTOCK_SINK__0__URL"),
        ("penstock_batch__max_records", "PENSTOCK_BATCH__MAX_RECORDS"),
        ("Penstock_Batch_Max_Records", "PENSTOCK_BATCH__MAX_RECORDS"),
    ],
)
def test_a_variable_of_almost_the_form_is_a_mistake(variable: str, meant: str) -> None:
    assert told(env={variable: "5"}) == [
        f"{variable}: is not of the form PENSTOCK_<SECTION>__<KEY>. Write {meant}, or unset it"
    ]


@pytest.mark.parametrize("place", ["\u0660", "00", "-1", "\u00b2", "x", "9" * 30])
def test_the_number_of_a_sink_is_written_in_digits(place: str) -> None:
    [said] = told(env={f"PENSTOCK_SINK__{place}__URL": "s3://bucket/x"})
    assert said.startswith(f"sink.{place}.url: there is no such key. Unset PENSTOCK_SINK__{place}__URL")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PENSTOCK_LOG_PORT", "tcp://10.0.0.1:80"),
        ("PENSTOCK_LOG_SERVICE_HOST", "10.0.0.1"),
        ("PENSTOCK_LOG_SERVICE_PORT_HTTP", "80"),
        ("PENSTOCK_LOG_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("PENSTOCK_LOGO", "x"),
        ("PENSTOCK_SERVICE_HOST", "10.0.0.1"),
    ],
)
def test_variables_of_others_are_ignored(variable: str, value: str) -> None:
    assert told(env={variable: value}) == []


def test_other_environment_variables_are_ignored() -> None:
    assert settings_with({"PENSTOCK_HOME": "x", "AWS_REGION": "eu-west-1"}).sources.get("home") is None


def test_parsed_settings_are_not_changed() -> None:
    raw = tomllib.loads(LEAST)
    parse(raw, {"PENSTOCK_SINK__0__URL": "s3://bucket/elsewhere"})
    assert raw == tomllib.loads(LEAST)


def test_each_setting_knows_where_it_comes_from() -> None:
    tables = {"PENSTOCK_MODEL__PASSTHROUGH": '{text = "string"}'}
    sources = settings_with({"PENSTOCK_SINK__0__URL": "out", "PENSTOCK_LOG__LEVEL": "debug", **tables}).sources
    assert sources["stream.name"] == "file"
    assert sources["sink.0.type"] == "file"
    assert sources["sink.0.url"] == "PENSTOCK_SINK__0__URL"
    assert sources["log.level"] == "PENSTOCK_LOG__LEVEL"
    assert sources["model.passthrough.text"] == "PENSTOCK_MODEL__PASSTHROUGH"
    assert "batch.max_records" not in sources


def test_a_file_remembers_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text(LEAST)
    assert load(path, {}).folder == tmp_path


def test_a_file_that_is_not_toml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text("[stream]\nname = events\n")
    with pytest.raises(UserError, match=r"penstock\.toml: not TOML: .*line 2"):
        load(path, {})


def test_a_file_that_is_not_utf_8_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "penstock.toml"
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(UserError, match="not UTF-8"):
        load(path, {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"x = {'[' * 20_000}{']' * 20_000}", "nested too deep"),
        (f"x = {'{a = ' * 20_000}1{'}' * 20_000}", "nested too deep"),
        (f"[{'.'.join(['a'] * 20_000)}]", "32 levels deep|nested too deep"),
        (f"x = {'9' * 5_000}", "more than 4300 digits"),
    ],
    ids=["lists", "tables", "keys", "digits"],
)
def test_values_that_exceed_the_parser_are_one_line(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text(f"{LEAST}\n[model.options]\n{text}\n" if not text.startswith("[") else f"{LEAST}\n{text}\n")
    with pytest.raises(UserError, match=told) as raised:
        load(path, {})
    assert max(map(len, str(raised.value).splitlines())) < 300


@pytest.mark.parametrize("value", ["9" * 5_000, "[" * 20_000, f"{'[' * 200}{']' * 200}"])
def test_the_environment_cannot_bring_such_values_in(value: str) -> None:
    raw = tomllib.loads(LEAST)
    with pytest.raises(ConfigErrors, match=r"set by PENSTOCK_BATCH__MAX_RECORDS|levels deep"):
        parse(raw, {"PENSTOCK_BATCH__MAX_RECORDS": value})


@pytest.mark.parametrize("name", ["nothing.toml", "."])
def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path / name, {})


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text(LEAST, encoding="utf-8-sig")
    assert load(path, {}).stream.name == "events"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("[model]\n", "Cannot declare model twice"),
        ("[model.options.a]\n[model.options.a]\n", "Cannot declare model.options.a twice"),
    ],
)
def test_a_table_that_is_there_twice_is_named_as_the_file_names_it(more: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text(LEAST + more)
    with pytest.raises(UserError) as raised:
        load(path, {})
    assert f": not TOML: {said} (" in str(raised.value)
    assert str(raised.value).endswith(". Write each table and each key once")
