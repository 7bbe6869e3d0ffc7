"""``penstock try`` and ``penstock init``: the first row of a new model, without AWS."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from consumer.cli import main
from consumer.tuning import trial
from consumer.tuning.trial import Tried

CONFIG = """
[stream]
name = "events"
application = "app"
[model]
factory = "{factory}"
version = "1"
[batch]
max_records = 8
[[sink]]
type = "parquet"
url = "out"
[dead_letter]
url = "dead"
max_consecutive = 1
"""
MODEL = """
import pyarrow as pa
from pipeline.model import Reject
class Picky:
    output_schema = pa.schema([("n", pa.int64()), ("batch", pa.int64()), ("raw", pa.binary()), ("x", pa.float64())])
    def predict(self, items):
        if any(item.get("n") == 13 for item in items):
            raise ValueError("13 is too much for me")
        return [Reject("n is 0") if not item["n"] else self.row(item, len(items)) for item in items]
    def row(self, item, size):
        return {"n": item["n"], "batch": size, "raw": b"\\xff", "x": float("nan")}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "picky.py").write_text(MODEL)
    path = tmp_path / "penstock.toml"
    path.write_text(CONFIG.format(factory="picky:Picky"))
    return path


def penstock(*words: str | Path, given: bytes | None = None) -> Result:
    return CliRunner().invoke(main, list(map(str, words)), prog_name="penstock", input=given)


def lines(*numbers: int) -> bytes:
    return b"".join(json.dumps({"n": number}).encode() + b"\n" for number in numbers)


def test_records_become_rows_and_dead_letters_as_in_a_task(config: Path, tmp_path: Path) -> None:
    records = tmp_path / "records.jsonl"
    records.write_bytes(lines(*range(1, 17), 0) + b"nonsense\n")
    result = penstock("try", "--config", config, "--json", records)
    assert result.exit_code == 1, result.output
    said = json.loads(result.stdout)
    assert next(iter(said)) == "schema" and said["schema"] == "penstock.try/1"
    assert [row["record"] for row in said["rows"]] == [*range(1, 13), *range(14, 17)]
    assert said["rows"][0]["row"]["raw"] == "/w==" and said["rows"][0]["row"]["x"] is None
    assert max(row["row"]["batch"] for row in said["rows"]) > 1
    letters = {letter["record"]: letter for letter in said["dead_letters"]}
    assert {number: letter["kind"] for number, letter in letters.items()} == {
        13: "exception",
        17: "rejected",
        18: "decode",
    }
    assert "13 is too much for me" in letters[13]["traceback"]
    assert result.stderr == ""
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == [
        "penstock.toml",
        "picky.py",
        "records.jsonl",
    ]


def test_a_table_of_rows_and_one_of_dead_letters(config: Path) -> None:
    result = penstock("try", "--config", config, "-", given=lines(1, 0, 2))
    assert result.exit_code == 1
    printed = result.stdout.splitlines()
    assert printed[0] == "record\tn\tbatch\traw\tx"
    assert [line.split("\t")[0:2] for line in printed[1:3]] == [["1", "1"], ["3", "2"]]
    assert printed[3:5] == ["record\tdead letter\tattempts\treason", "2\trejected\t1\tn is 0"]
    assert printed[5].startswith("2 rows, 1 dead letter; the model was loaded in ")


def numbered(settings: object, payloads: Sequence[bytes]) -> Tried:
    """The records as a model returns them, without the third of a second that it takes to start one."""
    rows = pa.table({"n": [json.loads(each)["n"] for each in payloads]})
    return Tried(rows, list(range(1, len(payloads) + 1)), {}, 0.1, 0.1, 1.0)


def test_records_of_several_kinds_are_read_in_their_order(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "1").write_bytes(lines(7))
    (folder / "2").write_bytes(lines(8))
    binary = tmp_path / "binary"
    binary.write_bytes(b"".join(len(each).to_bytes(4, "big") + each for each in (lines(1), lines(2))))
    both = penstock("try", "--config", config, "--framing", "lengths", "--json", binary, folder)
    assert [row["row"]["n"] for row in json.loads(both.stdout)["rows"]] == [1, 2, 7, 8]
    monkeypatch.setattr(trial, "tried", numbered)
    some = penstock("try", "--config", config, "--framing", "lengths", "--count", "3", "--json", binary, folder)
    assert [row["row"]["n"] for row in json.loads(some.stdout)["rows"]] == [1, 2, 7]
    piped = penstock("try", "--config", config, "--framing", "lengths", "--json", given=binary.read_bytes())
    assert [row["row"]["n"] for row in json.loads(piped.stdout)["rows"]] == [1, 2]


def test_a_model_that_does_not_load_is_one_line(config: Path) -> None:
    (config.parent / "picky.py").write_text("import pyarrow as pa\nclass Picky:\n    pass\n")
    result = penstock("try", "--config", config, given=lines(1))
    assert result.exit_code == 2
    assert result.stderr.startswith("penstock: ") and "it has no predict(items)" in result.stderr


def test_no_records_are_a_mistake(config: Path) -> None:
    result = penstock("try", "--config", config, given=b"")
    assert result.exit_code == 2 and "has no records" in result.stderr


# -- init


def test_a_new_project_passes_all_checks_unchanged(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    made = penstock("init", folder)
    assert made.exit_code == 0, made.output
    assert [Path(line.removeprefix("wrote ")).name for line in made.stdout.splitlines()[:4]] == [
        "model.py",
        "penstock.toml",
        "records.jsonl",
        "test_model.py",
    ]
    config = folder / "penstock.toml"
    assert penstock("config", "check", config).exit_code == 0
    tried = penstock("try", "--config", config, "--json", folder / "records.jsonl")
    assert tried.exit_code == 0, tried.output
    labels = [row["row"]["label"] for row in json.loads(tried.stdout)["rows"]]
    assert labels == ["friendly", "unfriendly", "neutral"]
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout


def test_init_refuses_a_folder_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    result = penstock("init", tmp_path)
    assert result.exit_code == 3
    assert "is not empty" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_init_into_a_file_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    result = penstock("init", tmp_path / "kept")
    assert result.exit_code == 2
    assert "is a file. Name a folder that does not exist yet" in result.stderr


def test_init_json(tmp_path: Path) -> None:
    said = json.loads(penstock("init", tmp_path / "new", "--json").stdout)
    assert said["schema"] == "penstock.init/1" and len(said["files"]) == 4
