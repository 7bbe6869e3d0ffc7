"""The contract on imports fails when it should, and every module is in one room."""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
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


def test_a_room_must_not_import_modules_that_are_not_named() -> None:
    options = {"room": ["pipeline.sinks"]}
    imports = ("pipeline.sinks.chain", "consumer.config")
    assert broken(options, imports) == ["pipeline.sinks.chain -> consumer.config"]


def test_a_room_may_import_itself_named_modules_and_other_packages() -> None:
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
    modules = [module for module in _graph().modules if module not in PACKAGES and not _is_only_a_folder(module)]
    homes = Counter({module: sum(within(module, part) for room in _rooms() for part in room) for module in modules})
    assert {module: count for module, count in homes.items() if count != 1} == {}


def test_a_folder_of_rooms_has_no_code() -> None:
    assert _is_only_a_folder("consumer.admin")
    assert not _is_only_a_folder("consumer.admin.status")  # a room
    assert not _is_only_a_folder("pipeline.sinks")  # its ports are code


def test_no_file_imports_upward() -> None:
    """The rooms are listed from the bottom to the top."""
    assert _upward(_imports(_graph()), _rooms()) == []


def test_an_import_of_a_room_further_up_is_found() -> None:
    rooms = [["house.words"], ["house.sinks"], ["house.app", "house.watchers"]]
    down = [("house.app", "house.sinks.s3"), ("house.app", "house.watchers"), ("house.sinks.s3", "house.words")]
    assert _upward(down, rooms) == []
    assert _upward([*down, ("house.sinks.s3", "house.watchers")], rooms) == ["house.sinks.s3 -> house.watchers"]


def test_no_file_stands_on_a_circle() -> None:
    assert _circle(_imports(_graph())) == []


def test_a_circle_of_files_is_found_also_where_types_and_functions_close_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    room = tmp_path / "house" / "room"
    room.mkdir(parents=True)
    for folder in (room.parent, room):
        (folder / "__init__.py").touch()
    (room / "a.py").write_text("from house.room import b\n")
    (room / "b.py").write_text("def b() -> None:\n    from house.room.c import C\n")
    (room / "c.py").write_text("from typing import TYPE_CHECKING\n")
    assert _circle(_imports(grimp.build_graph("house", cache_dir=None))) == []
    with (room / "c.py").open("a") as file:
        file.write("if TYPE_CHECKING:\n    from house.room.a import A\n")
    assert _circle(_imports(grimp.build_graph("house", cache_dir=None))) != []


def _is_only_a_folder(module: str) -> bool:
    """Whether a package contains only a docstring, and is in no room because its subpackages are rooms."""
    source = PYPROJECT.parent.joinpath(*module.split("."), "__init__.py")
    if not source.exists() or any(within(module, part) for room in _rooms() for part in room):
        return False
    return all(isinstance(node, ast.Expr) for node in ast.parse(source.read_text()).body)


def _upward(imports: Iterable[tuple[str, str]], rooms: Sequence[Sequence[str]]) -> list[str]:
    """The imports of a room by rooms that are listed before it."""

    def floor(module: str) -> int | None:
        return next((n for n, room in enumerate(rooms) if any(within(module, part) for part in room)), None)

    floors = [(module, imported, floor(module), floor(imported)) for module, imported in imports]
    return sorted(
        f"{module} -> {imported}"
        for module, imported, here, there in floors
        if here is not None and there is not None and here < there
    )


def _circle(imports: Iterable[tuple[str, str]]) -> list[str]:
    below: dict[str, set[str]] = {}
    for module, imported in imports:
        below.setdefault(module, set()).add(imported)
    try:
        TopologicalSorter(below).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def test_no_public_class_is_called_as_another_is() -> None:
    """A class name means one thing in the whole code."""
    homes: dict[str, list[str]] = {}
    types: dict[str, list[str]] = {}
    for package in ("consumer", "pipeline", "deploy", "examples"):
        for path in sorted((PYPROJECT.parent / package).rglob("*.py")):
            for name in public_classes(path.read_text()):
                homes.setdefault(name, []).append(path.relative_to(PYPROJECT.parent).as_posix())
            for name in type_aliases(path.read_text()):
                types.setdefault(name, []).append(path.relative_to(PYPROJECT.parent).as_posix())
    del homes["Options"]  # of two examples, each of which stands for a user's model
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}
    assert {name: types[name] for name in homes.keys() & types.keys()} == {}


def test_public_classes_are_found() -> None:
    assert public_classes("class A: ...\nclass _B: ...\ndef f():\n  class C: ...\n") == ["A"]


def public_classes(source: str) -> list[str]:
    """Return the names of a module's public classes, without those inside functions."""
    found = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    return [node.name for node in found if not node.name.startswith("_")]


def type_aliases(source: str) -> list[str]:
    """Return the names of a module's public type aliases, such as ``Call = Callable[[], int]``."""
    assigned = (node.targets[0] for node in ast.parse(source).body if isinstance(node, ast.Assign))
    names = [target.id for target in assigned if isinstance(target, ast.Name)]
    return [name for name in names if name[0].isupper() and not name.isupper()]


@cache
def _graph() -> grimp.ImportGraph:
    """All imports, including those inside functions and those for types."""
    return grimp.build_graph(*PACKAGES)


def _imports(graph: grimp.ImportGraph) -> list[tuple[str, str]]:
    return [(module, other) for module in graph.modules for other in graph.find_modules_directly_imported_by(module)]


@cache
def _rooms() -> list[list[str]]:
    """The contracts that are rooms; the contract on the standard library is about a part of one."""
    contracts = tomllib.loads(PYPROJECT.read_text())["tool"]["importlinter"]["contracts"]
    return [contract["room"] for contract in contracts if not contract.get("standard_library_only")]
