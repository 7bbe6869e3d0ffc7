"""The examples in ``docs/models.md`` run as they are printed, with the code of a replica."""

from __future__ import annotations

import io
import json
import re
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.model_process.frames import Frame
from pipeline.model_process.starting import start
from pipeline.model_process.worker import Measuring, PredictedRows, Predicting
from pipeline.testing.model_settings import assignment
from tests.docs.rendered import DOCS

EXAMPLES = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", (DOCS / "models.md").read_text(), flags=re.DOTALL))
"""The examples, by the name of the file."""


@dataclass(frozen=True)
class Example:
    """``good``: payloads with their rows. ``bad``: payloads with the start of the reason."""

    name: str
    good: dict[bytes, dict[str, Any]]
    bad: dict[bytes, str] = field(default_factory=dict)
    made: Callable[[Path], object] = lambda path: None
    """Writes the weights that the example loads."""


def image(width: int, height: int) -> bytes:
    """A white PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (width, height), 255).save(file, "PNG")
    return file.getvalue()


def of_sklearn(path: Path) -> None:
    joblib, tree = import_module("joblib"), import_module("sklearn.tree")
    rows = np.array([[age, 1.0, np.nan if age % 2 else 0.0] for age in range(100)])
    joblib.dump(tree.DecisionTreeClassifier(max_depth=2).fit(rows, rows[:, 0] > 50), path)


def of_torch(path: Path) -> None:
    import torch

    net = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.ReLU(), torch.nn.Linear(16, 8))
    torch.save({name: torch.zeros_like(weight) for name, weight in net.state_dict().items()}, path)


def of_onnx(path: Path) -> None:
    """A network that returns the sum of three features."""
    helper, kinds = import_module("onnx.helper"), import_module("onnx").TensorProto
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)],
        "sum",
        [helper.make_tensor_value_info("x", kinds.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("y", kinds.FLOAT, None)],
    )
    node = graph.node[0]
    node.input.append("axes")
    graph.initializer.append(helper.make_tensor("axes", kinds.INT64, [1], [1]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())


def dumps(**payload: Any) -> bytes:
    return json.dumps(payload).encode()


def cases() -> list[Any]:
    some = [
        Example(
            "digest",
            {b"a": {"size": 1, "sha256": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"}},
            {b"": "the payload is empty"},
        ),
        Example(
            "readings",
            {b"hall,20\n": {"sensor": "hall", "fahrenheit": 68.0}},
            {b"hall": "the payload is not one", b"hall,warm": "the second field", b"\xff": "UnicodeDecodeError"},
        ),
        Example(
            "brightness",
            {image(4, 2): {"width": 4, "height": 2, "brightness": 1.0}},
            {b"no image": "the payload is not an image"},
        ),
        Example("tabular", {dumps(features=[1, 2, 3]): {"score": 6.0}}, made=of_onnx),
        Example(
            "churn",
            {dumps(age=90): {"known": 1}, dumps(age=90, visits=2, spent=None): {"known": 2}},
            {dumps(age="old"): "ValueError"},
            of_sklearn,
        ),
        Example("embedder", {dumps(features=[1, 2, 3]): {"embedding": [0.0] * 8}}, made=of_torch),
        Example("padded", {b"\1\3": {"mean": 2.0, "tokens": 2}, b"\5": {"mean": 5.0, "tokens": 1}, b"": {"tokens": 0}}),
    ]
    return [pytest.param(each, id=each.name) for each in some]


@pytest.mark.parametrize("example", cases())
def test_each_example_makes_rows_of_good_payloads_and_dead_letters_of_bad_ones(
    example: Example, tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    example.made(weights)
    work = begun("predict", example.name, tmp_path, path=str(weights))
    assert isinstance(work, Predicting)
    made = work.predict(list(example.good))
    assert isinstance(made, PredictedRows), made
    assert made.faults == {}
    for row, wanted in zip(made.batch.to_pylist(), example.good.values(), strict=True):
        assert wanted.items() <= row.items()
    for payload, reason in example.bad.items():
        refused = work.predict([payload])
        fault = refused.faults[0] if isinstance(refused, PredictedRows) else refused.fault
        assert fault.reason.startswith(reason)


def begun(role: str, name: str, folder: Path, **options: Any) -> object:
    text = EXAMPLES[name]
    (folder / f"{name}.py").write_text(text)
    (model,) = re.findall(r"(?m)^class (\w+):", text)
    answer, work = start(assignment(role, f"{name}:{model}", [str(folder)], options=options))
    assert work is not None, answer
    return work


@pytest.mark.parametrize(("name", "payload", "cost"), [("brightness", None, 8), ("padded", b"four", 4)])
def test_costs_are_measured_without_load(name: str, payload: bytes | None, cost: int, tmp_path: Path) -> None:
    if payload is None:
        payload = image(4, 2)
    work = begun("measure", name, tmp_path)
    assert isinstance(work, Measuring)
    asked = Frame("measure", {"sizes": [len(payload)]}, memoryview(payload))
    costs = array("q", bytes(work.answer(asked)[-1]))
    assert list(costs) == [cost]


def test_every_example_is_run() -> None:
    assert set(EXAMPLES) == {case.values[0].name for case in cases()}
