"""The contract on imports goes red when it should, and every module lives in one room."""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from collections.abc import Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import grimp
import pytest

from tests.support.import_rules import Room, within

PACKAGES = ("consumer", "pipeline", "examples", "deploy")
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def broken(options: dict[str, Any], *imports: tuple[str, str]) -> list[str]:
    graph = grimp.ImportGraph()
    for importer, imported in imports:
        for module in (importer, imported):
            graph.add_module(module, is_squashed=module.partition(".")[0] not in PACKAGES)
        graph.add_import(importer=importer, imported=imported)
    session = {"root_packages": list(PACKAGES)}
    contract = Room(name="room", session_options=session, contract_options={"name": "room", "type": "room", **options})
    found: list[str] = contract.check(graph, verbose=False).metadata["broken"]
    return found


def test_a_room_may_not_import_what_is_not_named() -> None:
    options = {"room": ["pipeline.sinks"]}
    imports = ("pipeline.sinks.chain", "consumer.config")
    assert broken(options, imports) == ["pipeline.sinks.chain -> consumer.config"]


def test_a_room_may_import_itself_what_is_named_and_what_is_not_ours() -> None:
    options = {"room": ["consumer.local"], "may_import": ["pipeline.record"]}
    imports = [
        ("consumer.local.a", "consumer.local.b"),
        ("consumer.local", "pipeline.record"),
        ("consumer.local", "moto"),
    ]
    assert broken(options, *imports) == []
    assert broken(options, ("consumer.local.a", "pipeline.recorder")) == ["consumer.local.a -> pipeline.recorder"]


def test_a_room_may_be_a_few_modules() -> None:
    options = {"room": ["pipeline.stage", "pipeline.flow"]}
    assert broken(options, ("pipeline.stage", "pipeline.flow"), ("pipeline.sinks", "pipeline.metrics")) == []
    assert broken(options, ("pipeline.flow", "pipeline.metrics")) == ["pipeline.flow -> pipeline.metrics"]


@pytest.mark.parametrize(("imported", "wrong"), [("socket", False), ("orjson", True)])
def test_a_bridge_may_import_the_standard_library_only(imported: str, wrong: bool) -> None:
    options = {"room": ["consumer.kcl.bridge"], "standard_library_only": "True"}
    assert bool(broken(options, ("consumer.kcl.bridge", imported))) is wrong


def test_every_module_is_in_one_room() -> None:
    modules = [module for module in _graph().modules if module not in PACKAGES]
    homes = Counter({module: sum(within(module, part) for room in _rooms() for part in room) for module in modules})
    assert {module: count for module, count in homes.items() if count != 1} == {}


def test_no_room_stands_on_a_circle() -> None:
    rooms = _rooms()

    def home(module: str) -> int | None:
        return next((n for n, room in enumerate(rooms) if any(within(module, part) for part in room)), None)

    below: dict[int, set[int]] = {n: set() for n in range(len(rooms))}
    for module, imported in _imports():
        above, under = home(module), home(imported)
        if above is not None and under is not None and above != under:
            below[above].add(under)
    assert _circle({rooms[n][0]: {rooms[m][0] for m in under} for n, under in below.items()}) == []


def test_no_module_stands_on_a_circle() -> None:
    below: dict[str, set[str]] = {}
    for module, imported in _imports():
        below.setdefault(module, set()).add(imported)
    assert _circle(below) == []


def test_a_circle_is_found() -> None:
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) != []


def _circle(below: Mapping[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(below).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def test_no_public_class_is_called_as_another_is() -> None:
    """A name means one thing in the whole house."""
    homes: dict[str, list[str]] = {}
    for package in ("consumer", "pipeline"):
        for path in sorted((PYPROJECT.parent / package).rglob("*.py")):
            for name in public_classes(path.read_text()):
                homes.setdefault(name, []).append(path.relative_to(PYPROJECT.parent).as_posix())
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def test_public_classes_are_found() -> None:
    assert public_classes("class A: ...\nclass _B: ...\ndef f():\n  class C: ...\n") == ["A"]


def public_classes(source: str) -> list[str]:
    """Of a module, not of a function."""
    found = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    return [node.name for node in found if not node.name.startswith("_")]


@cache
def _graph() -> grimp.ImportGraph:
    """With imports inside functions, and those for types alone."""
    return grimp.build_graph(*PACKAGES)


def _imports() -> list[tuple[str, str]]:
    graph = _graph()
    return [(module, other) for module in graph.modules for other in graph.find_modules_directly_imported_by(module)]


@cache
def _rooms() -> list[list[str]]:
    """Those that make up the house; the contract on the standard library is about a part of one."""
    contracts = tomllib.loads(PYPROJECT.read_text())["tool"]["importlinter"]["contracts"]
    return [contract["room"] for contract in contracts if not contract.get("standard_library_only")]
