from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pyarrow as pa
import pytest

from examples.hello import Sentiment
from pipeline.model import LoadContext, Reject

EXAMPLES = Path(__file__).parents[3] / "examples"


def loaded(**options: object) -> Sentiment:
    model = Sentiment()
    model.load(LoadContext(options=options))
    return model


def test_friendly_and_unfriendly_words_are_distinguished() -> None:
    texts = ["Great! Thanks.", "Slow and broken", "good but slow", "a table", "Great, good, bad"]
    rows = loaded().predict([{"text": text} for text in texts])
    table = pa.RecordBatch.from_pylist(rows, Sentiment.output_schema)
    assert table.column("label").to_pylist() == ["good", "bad", "neutral", "neutral", "good"]
    assert table.column("score").to_pylist() == pytest.approx([1, -1, 0, 0, 1 / 3])


def test_the_example_predicts() -> None:
    model = loaded()
    assert model.predict([model.example()]) == [{"label": "good", "score": 1.0}]


def test_words_can_be_given_as_options() -> None:
    [row] = loaded(good=["yes"], bad=["no"]).predict([{"text": "no no yes great"}])
    assert not isinstance(row, Reject) and row["label"] == "bad"


def test_a_record_without_text_is_rejected_and_its_neighbours_are_not() -> None:
    rows = loaded().predict([{"text": "good"}, {}, {"text": 7}])
    assert [isinstance(row, Reject) for row in rows] == [False, True, True]


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.toml")), ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_every_example_configuration_names_a_model_that_is_there(path: Path) -> None:
    module, _, attribute = tomllib.loads(path.read_text())["model"]["factory"].partition(":")
    model = getattr(import_module(module), attribute)
    assert isinstance(model.output_schema, pa.Schema)


@pytest.mark.parametrize("module", ["hello", "minilm", "reference_1gb", "demo.corpus"])
def test_importing_an_example_does_not_import_torch(module: str) -> None:
    program = f"import sys, examples.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
