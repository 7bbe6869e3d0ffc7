"""The templates by the word of cfn-lint, whose rules are read once, in one process of pytest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.yaml_subset import section
from tests.support.cloudformation import TEMPLATE, read

TEMPLATES = sorted(TEMPLATE.parent.glob("*.yaml"))


def test_cfn_lint_finds_nothing() -> None:
    """In one run: reading its rules takes as long as checking a template."""
    from cfnlint.config import ConfigMixIn
    from cfnlint.runner import Runner

    runner = Runner(ConfigMixIn(["--template", *map(str, TEMPLATES)]))
    assert [f"{match.filename}: {match}" for match in runner.run()] == []


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_the_templates_are_read_as_cfn_lint_reads_them(path: Path) -> None:
    """By the tests, and by the commands, which have no reader of YAML: numbers stay text there."""
    from cfnlint.decode import decode

    found, mistakes = decode(str(path))
    assert not mistakes
    theirs = json.loads(json.dumps(found))
    assert read(path) == theirs
    for name in ("Parameters", "Rules", "Conditions"):
        assert section(path.read_text(), name) == text_of(theirs.get(name, {})), name


def text_of(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: text_of(each) for name, each in value.items()}
    return [text_of(each) for each in value] if isinstance(value, list) else str(value)
