"""A module of an extra is checked before it is imported; an error names the extra if it is missing."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from pipeline import extras
from pipeline.errors import ModelError, UserError
from pipeline.model.loader import find


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
