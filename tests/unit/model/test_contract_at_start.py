"""A model that breaks the contract is refused at start, with the line that it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import ModelError
from pipeline.model.loader import UserModel
from pipeline.model_process.starting import start
from tests.unit.model.test_results import Returns
from tests.unit.test_extras import assignment

MODEL = """
import pyarrow as pa
class M:
    output_schema = pa.schema([("x", pa.int64())])
    def example(self):
        return {{"text": "a"}}
    def predict(self, items):
        return [dict(x=1) for _ in items]
{more}
"""


def said_at_start(more: str, folder: Path) -> str:
    """The error of a model with these lines; empty if it starts."""
    (folder / "own.py").write_text(MODEL.format(more=more))
    answer, work = start(assignment("own:M", folder))
    return "" if work is not None else b"".join(map(bytes, answer)).decode(errors="replace")


@pytest.mark.parametrize(
    ("cost", "why"),
    [
        ("item['body']", "KeyError: 'body'"),
        ("'x'", "cost returned 'x', not a whole number of at least 1"),
        ("'5'", "cost returned '5', not a whole number of at least 1"),
        ("float('nan')", "cost returned nan, not a whole number"),
        ("float('inf')", "cost returned inf, not a whole number"),
        ("None", "cost returned None, not a whole number"),
        ("-1", "cost returned -1, not a whole number"),
    ],
)
def test_a_cost_that_its_own_example_has_not_is_refused(cost: str, why: str, tmp_path: Path) -> None:
    said = said_at_start(f"    def cost(self, item):\n        return {cost}", tmp_path)
    assert "the cost of its own example failed: " in said and why in said


@pytest.mark.parametrize("cost", [1, 0, 2.0, True, np.int64(7), np.float32(3), 2**70])
def test_a_cost_that_is_a_number_is_accepted(cost: Any) -> None:
    model: Any = Returns(lambda items: items)
    model.cost = lambda item: cost
    assert 1 <= UserModel("m:M", model).cost_of(None) <= 2**62


@pytest.mark.parametrize("pads", ["yes", 1, None, 0.5, lambda: True])
def test_pads_is_true_or_false(pads: Any) -> None:
    model: Any = Returns(lambda items: items)
    model.pads = pads
    with pytest.raises(ModelError, match=r"m:M: its pads is of type \w+; write pads = True or pads = False$"):
        UserModel("m:M", model)


@pytest.mark.parametrize("parameters", ["items", "", "items, **more", "items, *, records=()"])
def test_a_predict_without_self_is_shown_its_line(parameters: str, tmp_path: Path) -> None:
    said = said_at_start(f"    def predict({parameters}): return []".replace("predict()", "predict(self)"), tmp_path)
    assert "its predict takes no items; write def predict(self, items)" in said


@pytest.mark.parametrize(
    "parameters", ["self, items", "self, items, records", "*all", "self, items, /", "self, items, x=1"]
)
def test_a_predict_that_takes_items_is_accepted(parameters: str, tmp_path: Path) -> None:
    items = "all[1]" if parameters == "*all" else "items"
    assert said_at_start(f"    def predict({parameters}): return [dict(x=1) for _ in {items}]", tmp_path) == ""
