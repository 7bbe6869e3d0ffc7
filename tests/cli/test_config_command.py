"""``penstock config``: mistakes, the model, and where each setting comes from."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.support.command_line import GOOD, penstock


def test_check_of_a_good_configuration(good: Path) -> None:
    result = penstock("config", "check", good)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{good}: no mistakes\n", "")


def test_check_reports_every_mistake_on_stderr(bad: Path) -> None:
    result = penstock("config", "check", bad)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"penstock: {bad}: 2 mistakes",
        "  batch.linger_ms: -1 is too small. Write at least 0",
        "  batch.max_recrods: unknown key. Did you mean max_records?",
    ]


def test_check_as_json_is_one_object_and_keeps_the_exit_code(good: Path, bad: Path) -> None:
    result = penstock("config", "check", bad, "--json")
    assert result.exit_code == 2
    assert result.stderr == ""
    found = json.loads(result.stdout)
    assert found["ok"] is False
    assert [mistake["key"] for mistake in found["mistakes"]] == ["batch.linger_ms", "batch.max_recrods"]
    good.write_text(GOOD)
    assert json.loads(penstock("config", "check", good, "--json").stdout) == {
        "schema": "penstock.config.check/1",
        "ok": True,
        "mistakes": [],
    }


MODELS = """
import pyarrow as pa
raise_on_import = False
class Good:
    output_schema = pa.schema([("label", pa.string())])
    def example(self): return {}
    def predict(self, items): return [{"label": "x"} for _ in items]
class Clashing(Good):
    output_schema = pa.schema([("dt", pa.string())])
    def example(self): return None
class Halved(Good):
    output_schema = pa.schema([("label", pa.float16())])
    def example(self): return None
"""


def with_model(good: Path, factory: str) -> Path:
    good.with_name("given.py").write_text(MODELS)
    good.with_name("package").mkdir(exist_ok=True)
    good.with_name("package").joinpath("inside.py").write_text(MODELS)
    good.write_text(GOOD.replace("examples.minilm:MiniLM", factory))
    return good


@pytest.mark.parametrize(
    "factory", ["given:Good", "package.inside:Good", "given:NotThere", "json:JSONDecoder", "os.path:join"]
)
def test_check_imports_nothing(factory: str, good: Path) -> None:
    assert penstock("config", "check", with_model(good, factory)).exit_code == 0
    assert "given" not in sys.modules and "package" not in sys.modules


@pytest.mark.parametrize(
    "module", ["nowhere", "given.inside", "package.nowhere", "package", "json.nowhere", "nowhere.json"]
)
def test_check_reports_a_missing_module(module: str, good: Path) -> None:
    config = with_model(good, f"{module}:Model")
    result = penstock("config", "check", config)
    assert result.exit_code == 2 and result.stdout == ""
    assert f"  model.factory: there is no module {module}. Put " in result.stderr
    [mistake] = json.loads(penstock("config", "check", config, "--json").stdout)["mistakes"]
    assert mistake["key"] == "model.factory"


@pytest.mark.parametrize(
    ("factory", "code", "says"),
    [
        ("given:Good", 0, "no mistakes; the model loads in "),
        ("given:Halved", 0, "column 'label' has the type halffloat"),
        ("given:NotThere", 2, "penstock: model.factory given:NotThere: module given has no NotThere"),
        ("given:Clashing", 2, "penstock: model.output_schema: column 'dt' has the name of the table's folders"),
    ],
)
def test_check_with_load_says_what_a_start_would(factory: str, code: int, says: str, good: Path) -> None:
    result = penstock("config", "check", "--load", with_model(good, factory))
    assert result.exit_code == code
    assert says in result.stdout + result.stderr
    if code:
        assert result.stdout == "" and result.stderr.count("\n") == 1


def test_check_with_load_as_json_has_the_models_mistake_too(good: Path) -> None:
    result = penstock("config", "check", "--load", "--json", with_model(good, "given:raise_on_import"))
    assert result.exit_code == 2
    said = json.loads(result.stdout)
    assert said["ok"] is False and said["mistakes"][0]["key"] == "model.factory"


def test_show_says_where_each_setting_comes_from(good: Path) -> None:
    result = penstock("config", "show", good, env={"PENSTOCK_BATCH__MAX_RECORDS": "8"})
    assert result.exit_code == 0
    lines = {line.split(" = ")[0]: line for line in result.stdout.splitlines()}
    assert lines["stream.name"].split() == ["stream.name", "=", '"events"', "#", "file"]
    assert lines["batch.max_records"].split() == ["batch.max_records", "=", "8", "#", "PENSTOCK_BATCH__MAX_RECORDS"]
    assert lines["health.port"].endswith("# default")
    assert "sink.0.url" in lines
    assert "\x1b" not in result.stdout


def test_show_as_json_has_every_key_once(good: Path) -> None:
    shown = json.loads(penstock("config", "show", good, "--json").stdout)["settings"]
    assert shown["stream.name"] == {"value": "events", "source": "file"}
    assert shown["kcl.shutdown_grace_s"] == {"value": 80, "source": "default"}
    assert shown["model.passthrough"] == {"value": {}, "source": "default"}
