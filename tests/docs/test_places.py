"""A newcomer finds the place of a change: the documents name every room, and the files contain the names that the
documents say."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from tests.docs.rendered import DOCS
from tests.support.import_rules import within

ROOT = DOCS.parent
SAID = re.compile(r"`(\w+)`,?\s(?:both\s)?in\s`((?:consumer|pipeline)/[\w/]+\.py)`")
"""A name, and the file that should contain it."""


def places() -> set[str]:
    """The modules and folders that the table in architecture.md names."""
    [table] = re.findall(r"(?s)\| to change \| go to \|\n(.*?)\n\n", (DOCS / "architecture.md").read_text())
    found = re.findall(r"`((?:consumer|pipeline|deploy)/[\w/]*)(?:\.py)?`", table)
    return {place.strip("/").replace("/", ".") for place in found}


def rooms() -> list[list[str]]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    found = [each["room"] for each in contracts if "standard_library_only" not in each]
    return [room for room in found if not room[0].startswith("examples.") and not room[0].endswith(".testing")]


@pytest.mark.parametrize("room", rooms(), ids=lambda room: room[0])
def test_the_architecture_says_what_is_changed_in_each_room(room: list[str]) -> None:
    assert any(within(place, part) for place in places() for part in room)


def said() -> list[tuple[str, str, str]]:
    paths = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    return [(path.name, *each) for path in paths for each in SAID.findall(path.read_text())]


@pytest.mark.parametrize(("document", "name", "path"), said())
def test_names_that_a_document_places_in_a_file_are_defined_there(document: str, name: str, path: str) -> None:
    assert name in defined(ROOT / path)


def test_names_that_documents_place_are_found() -> None:
    assert ("architecture.md", "MemoryStore", "pipeline/stores/memory.py") in said()
    assert ("CONTRIBUTING.md", "ShardWriter", "pipeline/sinks/__init__.py") in said()


def defined(path: Path) -> set[str]:
    """The names that the module itself defines."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def test_messages_name_only_programs_that_are_installed() -> None:
    texts = {path: path.read_text() for part in ("consumer", "pipeline") for path in (ROOT / part).rglob("*.py")}
    assert [path.name for path, text in texts.items() if re.search(r"`aws \w", text)] == []
