"""The contract on imports goes red when it should."""

from __future__ import annotations

from typing import Any

import grimp
import pytest

from tests.rooms import Room


def broken(options: dict[str, Any], *imports: tuple[str, str]) -> list[str]:
    graph = grimp.ImportGraph()
    for importer, imported in imports:
        for module in (importer, imported):
            graph.add_module(module, is_squashed=module.partition(".")[0] not in {"consumer", "pipeline"})
        graph.add_import(importer=importer, imported=imported)
    session = {"root_packages": ["consumer", "pipeline"]}
    contract = Room(name="room", session_options=session, contract_options={"name": "room", "type": "room", **options})
    found: list[str] = contract.check(graph, verbose=False).metadata["broken"]
    return found


def test_a_room_may_not_import_what_is_not_named() -> None:
    options = {"room": "pipeline"}
    assert broken(options, ("pipeline.sinks.chain", "consumer.config")) == ["pipeline.sinks.chain -> consumer.config"]


def test_a_room_may_import_itself_what_is_named_and_what_is_not_ours() -> None:
    options = {"room": "consumer.local", "may_import": ["pipeline.record"]}
    imports = [
        ("consumer.local.a", "consumer.local.b"),
        ("consumer.local", "pipeline.record"),
        ("consumer.local", "moto"),
    ]
    assert broken(options, *imports) == []
    assert broken(options, ("consumer.local.a", "pipeline.recorder")) == ["consumer.local.a -> pipeline.recorder"]


def test_a_part_left_out_of_a_room_is_not_part_of_it() -> None:
    options = {"room": "consumer", "without": ["consumer.cli"], "may_import": ["pipeline"]}
    assert broken(options, ("consumer.cli.run", "examples.minilm"), ("consumer.app", "pipeline")) == []
    assert broken(options, ("consumer.app", "consumer.cli.run")) == ["consumer.app -> consumer.cli.run"]


@pytest.mark.parametrize(("imported", "wrong"), [("socket", False), ("orjson", True)])
def test_a_bridge_may_import_the_standard_library_only(imported: str, wrong: bool) -> None:
    options = {"room": "consumer.kcl.bridge", "standard_library_only": "True"}
    assert bool(broken(options, ("consumer.kcl.bridge", imported))) is wrong


def test_a_single_import_can_be_excepted() -> None:
    options = {"room": "pipeline", "except_imports": ["pipeline.a -> consumer.b"]}
    assert broken(options, ("pipeline.a", "consumer.b"), ("pipeline.a", "consumer.c")) == ["pipeline.a -> consumer.c"]
