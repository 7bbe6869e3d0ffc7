"""A module of an extra is checked before it is imported; an error names the extra if it is missing."""

from __future__ import annotations

import configparser
import re
import sys
from pathlib import Path

import pytest

from pipeline import extras
from pipeline.errors import ModelError, UserError
from pipeline.model.loader import find
from pipeline.model_process.assignment import Assignment
from pipeline.model_process.starting import start

MODEL = """
import pyarrow as pa
class Late:
    output_schema = pa.schema([("x", pa.int64())])
    def {method}:
        {body}
    def predict(self, items):
        return [dict(x=1) for _ in items]
"""


def assignment(factory: str, folder: Path) -> Assignment:
    return Assignment(
        factory=factory,
        version="1",
        threads=1,
        missing="reject",
        not_finite="reject",
        memory_mib=0,
        device="cpu",
        aws_credentials=False,
        search_path=[str(folder)],
        role="predict",
        number=0,
    )


@pytest.mark.parametrize("extra", extras.EXTRAS)
def test_an_installed_extra_is_not_requested(extra: str) -> None:
    extras.require(extra)


@pytest.mark.parametrize("extra", extras.EXTRAS)
def test_an_extra_that_is_not_installed_is_named_in_one_line(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=re.escape(f'Run: pip install "penstock[{extra}]"')) as caught:
        extras.require(extra)
    assert "\n" not in str(caught.value)
    assert all(module in str(caught.value) for module in extras.EXTRAS[extra])


def test_a_model_that_lacks_a_package_of_an_extra_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sentiment.py").write_text("import torch\n")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModelError, match=re.escape('no module torch. Run: pip install "penstock[torch]"')):
        find("sentiment:Sentiment", [str(tmp_path)], {})


def test_a_package_of_no_extra_has_no_hint() -> None:
    assert extras.hint("sklearn.svm") == ""


@pytest.mark.parametrize(
    "body",
    [
        "import torch",
        "try:\n            import torch.nn\n        except ImportError as e:\n            raise OSError('x') from e",
    ],
)
@pytest.mark.parametrize("method", ["load(self, context)", "example(self)", "__init__(self)"])
def test_a_package_that_a_method_lacks_is_named_with_its_extra(
    body: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "late.py").write_text(MODEL.format(method=method, body=body))
    monkeypatch.setitem(sys.modules, "torch", None)
    frame, work = start(assignment("late:Late", tmp_path))
    assert work is None and b'Run: pip install \\"penstock[torch]\\"' in b"".join(map(bytes, frame))


def test_an_extra_that_includes_others_needs_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    written = configparser.ConfigParser()
    written.read(Path(__file__).parents[2] / "setup.cfg")
    for extra in extras.EXTRAS:
        found = re.findall(r"penstock\[(.*)\]", written["options.extras_require"][extra])
        included = {name for names in found for name in names.split(",")} - {"java"}
        assert set(extras.INCLUDED.get(extra, ())) == included
    monkeypatch.setattr(extras, "find_spec", lambda module: None if module == "safetensors" else module)
    with pytest.raises(UserError, match=re.escape('safetensors. Run: pip install "penstock[demo]"')):
        extras.require("demo")
