"""A model's module may have any name; imports of that name still mean what they meant."""

from __future__ import annotations

import random
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipeline.model
from pipeline.errors import ModelError
from pipeline.model.loader import UserModel, find

MODEL = """
import pyarrow as pa
{imports}

class Mine:
    output_schema = pa.schema([("n", pa.int64())])

    def predict(self, items):
        return [{{"n": {value}}} for _ in items]
"""

NAMES = ("pipeline", "consumer", "random", "types", "examples", "json", "queue", "numpy", "pandas", "pytest", "model")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    path, finders, modules = list(sys.path), list(sys.meta_path), dict(sys.modules)
    yield
    sys.path[:], sys.meta_path[:] = path, finders
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.modules.update(modules)


def answered(model: UserModel) -> object:
    return model.predict([{}])[0]["n"]


def written(file: Path, imports: str = "", value: object = 7) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(MODEL.format(imports=imports, value=value))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_any_name_is_the_model_and_nothing_else(name: str, tmp_path: Path) -> None:
    before = sys.modules.get(name)
    written(tmp_path / f"{name}.py")
    assert answered(find(f"{name}:Mine", [str(tmp_path)], {})) == 7
    assert before is None or sys.modules[name] is before


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("init", [True, False])
def test_a_package_of_any_name_is_the_model(name: str, init: bool, tmp_path: Path) -> None:
    written(tmp_path / name / "inner" / "deep.py", "from ..near import VALUE\nfrom . import beside", "VALUE")
    (tmp_path / name / "near.py").write_text("VALUE = 8\n")
    (tmp_path / name / "inner" / "beside.py").write_text("")
    if init:
        (tmp_path / name / "__init__.py").write_text("")
        (tmp_path / name / "inner" / "__init__.py").write_text("")
    assert answered(find(f"{name}.inner.deep:Mine", [str(tmp_path)], {})) == 8


@pytest.mark.parametrize("name", ["pipeline", "random", "mine"])
def test_modules_beside_the_model_are_found_for_any_name_of_the_model(name: str, tmp_path: Path) -> None:
    written(tmp_path / f"{name}.py", "import helpers_of_mine", "helpers_of_mine.VALUE")
    (tmp_path / "helpers_of_mine.py").write_text("VALUE = 9\n")
    assert answered(find(f"{name}:Mine", [str(tmp_path)], {})) == 9


@pytest.mark.parametrize("name", ["pipeline", "random", "mine"])
def test_a_sibling_is_not_taken_for_pythons_own_or_ours(name: str, tmp_path: Path) -> None:
    written(tmp_path / f"{name}.py", "import random, this, pipeline.model", "(random, pipeline.model)")
    for other in ("random", "this", "pipeline"):
        if other != name:
            (tmp_path / f"{other}.py").write_text("raise AssertionError(__name__)\n")
    assert answered(find(f"{name}:Mine", [str(tmp_path)], {})) == (random, pipeline.model)


def test_a_module_beside_the_model_comes_before_an_installed_one(tmp_path: Path) -> None:
    (tmp_path / "beside").mkdir()
    (tmp_path / "installed").mkdir()
    written(tmp_path / "beside" / "mine.py", "import either", "either.__file__")
    for folder in ("beside", "installed"):
        (tmp_path / folder / "either.py").write_text("")
    sys.path.insert(0, str(tmp_path / "installed"))
    model = find("mine:Mine", [str(tmp_path / "beside")], {})
    assert answered(model) == str(tmp_path / "beside" / "either.py")


def test_a_file_may_import_the_library_that_it_is_named_after(tmp_path: Path) -> None:
    for folder in ("beside", "installed"):
        written(tmp_path / folder / "clever.py")
    written(tmp_path / "beside" / "clever.py", "import clever", "clever.__file__")
    sys.path.insert(0, str(tmp_path / "installed"))
    assert answered(find("clever:Mine", [str(tmp_path / "beside")], {})) == str(tmp_path / "installed" / "clever.py")


def test_a_folder_of_data_is_not_a_module(tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    assert find("examples.hello:Sentiment", [str(tmp_path)], {}).name == "examples.hello:Sentiment"


def test_a_package_with_the_name_of_another_module_is_reported(tmp_path: Path) -> None:
    written(tmp_path / "types" / "mine.py", "from types.near import VALUE")
    (tmp_path / "types" / "near.py").write_text("VALUE = 1\n")
    (tmp_path / "types" / "__init__.py").write_text("")
    with pytest.raises(ModelError, match=r"another module has the name types: write from \. import, or rename types$"):
        find("types.mine:Mine", [str(tmp_path)], {})
    assert sys.modules["types"] is types


def test_a_module_is_made_once(tmp_path: Path) -> None:
    written(tmp_path / "random.py")
    find("random:Mine", [str(tmp_path)], {})
    first = sys.modules["_model_random"]
    find("random:Mine", [str(tmp_path)], {})
    assert sys.modules["_model_random"] is first
    other = tmp_path / "other"
    written(other / "random.py", value=3)
    assert answered(find("random:Mine", [str(other)], {})) == 3


@pytest.mark.parametrize(("text", "told"), [("1 / 0\n", "ZeroDivisionError"), ("def\n", "SyntaxError")])
def test_a_file_with_a_taken_name_that_does_not_import_is_reported_in_one_line(
    text: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "random.py").write_text(text)
    for _ in range(2):
        with pytest.raises(ModelError, match=f"model.factory random:Mine: importing it failed: {told}"):
            find("random:Mine", [str(tmp_path)], {})
