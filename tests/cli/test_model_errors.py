"""A model whose own code fails: every command names the exception and its place on one line, and has the rest on
request.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from consumer import logs
from consumer.cli import main

CONFIG = """
[stream]
name = "events"
application = "penstock-events"
[model]
factory = "failing:{model}"
version = "1"
[[sink]]
type = "parquet"
url = "out"
[dead_letter]
url = "dead"
"""
MODELS = """import ctypes, json
import pyarrow as pa

class Parent:
    output_schema = pa.schema([("label", pa.string())])
    def predict(self, items): return [{"label": item["text"]} for item in items]

class Load(Parent):
    def load(self, context):
        json.loads("{")

class Example(Parent):
    def example(self): return {}

class Made(Parent):
    def __init__(self): self.nowhere

class Dies(Parent):
    def load(self, context):
        print("the last words", flush=True)
        ctypes.string_at(0)
"""
LOAD = "model.factory failing:Load: load failed: JSONDecodeError: "
PLACE = "(failing.py:10 in load)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "failing.py").write_text(MODELS)
    (tmp_path / "records.jsonl").write_text("{}\n")
    return tmp_path


def penstock(folder: Path, model: str, *words: str) -> Result:
    config = folder / "penstock.toml"
    config.write_text(CONFIG.format(model=model))
    places = {"CONFIG": str(config), "RECORDS": str(folder / "records.jsonl")}
    return CliRunner().invoke(main, [places.get(word, word) for word in words])


@pytest.mark.parametrize(
    "words",
    [
        ("config", "check", "--load", "CONFIG"),
        ("try", "--config", "CONFIG", "RECORDS"),
        ("tune", "--config", "CONFIG", "--records", "RECORDS"),
    ],
)
def test_the_error_and_its_place_are_one_line(words: tuple[str, ...], folder: Path) -> None:
    result = penstock(folder, "Load", *words)
    line, hint = result.stderr.splitlines()
    assert (result.exit_code, result.stdout) == (2, "")
    assert line.startswith(f"penstock: {LOAD}") and line.endswith(PLACE)
    assert hint == "  (penstock --debug … shows the traceback)"


@pytest.mark.parametrize(
    ("model", "end"),
    [
        ("Example", "its own example failed: KeyError: 'text' (failing.py:6 in <listcomp>)"),
        ("Made", "Made() failed: AttributeError: 'Made' object has no attribute 'nowhere' (failing.py:16 in __init__)"),
    ],
)
def test_the_place_is_in_the_models_own_code(model: str, end: str, folder: Path) -> None:
    line = penstock(folder, model, "config", "check", "--load", "CONFIG").stderr.splitlines()[0]
    assert line.replace("in predict", "in <listcomp>") == f"penstock: model.factory failing:{model}: {end}"  # 3.12


def test_debug_shows_the_models_traceback(folder: Path) -> None:
    lines = penstock(folder, "Load", "--debug", "config", "check", "--load", "CONFIG").stderr.splitlines()
    assert lines[-1].startswith(f"penstock: {LOAD}")
    model = lines.index("In the model's process:")
    assert '    json.loads("{")' in lines[model:] and any("json/decoder.py" in line for line in lines[model:])


def test_json_has_the_models_traceback(folder: Path) -> None:
    result = penstock(folder, "Load", "config", "check", "--load", "--json", "CONFIG")
    [mistake] = json.loads(result.stdout)["mistakes"]
    assert (result.exit_code, result.stderr) == (2, "")
    assert mistake["problem"].startswith(LOAD) and mistake["problem"].endswith(PLACE)
    assert 'json.loads("{")' in mistake["traceback"]


def test_debug_shows_what_a_model_printed_that_killed_its_process(folder: Path) -> None:
    result = penstock(folder, "Dies", "--debug", "config", "check", "--load", "CONFIG")
    assert result.exit_code == 1
    assert "the last words" in result.stderr and 'failing.py", line 21 in load' in result.stderr
    assert "penstock: replica killed by signal 11 while it loaded failing:Dies; " in result.stderr


@pytest.fixture
def json_log(tmp_path: Path) -> Iterator[Path]:
    root = logging.getLogger()
    before, level, path = root.handlers[:], root.level, tmp_path / "log"
    with path.open("w") as stream:
        logs.configure("INFO", "json", stream)
        yield path
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def test_the_log_of_a_task_has_the_models_traceback_without_being_asked(folder: Path, json_log: Path) -> None:
    penstock(folder, "Load", "config", "check", "--load", "CONFIG")
    lines = [json.loads(line) for line in json_log.read_text().splitlines()]
    said = [line["msg"] for line in lines if line["level"] == "ERROR"]
    assert said[0] == "Traceback (most recent call last):" and '    json.loads("{")' in said
    assert said[-1].startswith(LOAD) and said[-1].endswith(PLACE)
