"""The default of a setting is written in the settings tree, and nowhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from consumer.config.settings import Settings
from consumer.config.sink_settings import SINKS

ROOT = Path(__file__).parents[3]
TREE = {"settings.py", "model_settings.py", "sink_settings.py"}
SKIPPED = {"testing", "local", "cli", "admin", "aws", "diff"}
"""Fakes, and commands that get their values on the command line."""

NOTHING = {"None", "0", "()", "float('inf')", "field(default_factory=dict)"}
"""Without a value there is no limit, or nothing to do; this is not a default of a setting."""

OTHERS = {
    ("pipeline/model/__init__.py", "threads"): "a user's own test makes a LoadContext",
    ("pipeline/model/__init__.py", "device"): "a user's own test makes a LoadContext",
    ("pipeline/sinks/dead_letters.py", "flush_interval_s"): "the dead letters' own; there is no such setting",
    ("pipeline/table/compare.py", "missing"): "records that are not in the table",
}
"""Parameters with the name of a setting and another meaning."""


def names_of(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from names_of(field.annotation)
        elif not field.is_required():
            yield name


NAMES = {name for model in (Settings, *SINKS.values()) for name in names_of(model)}


def defaults(source: str) -> Iterator[tuple[str, str]]:
    """Names of parameters and of fields of classes, with the code of their defaults."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            positional = [*node.args.posonlyargs, *node.args.args]
            given = positional[len(positional) - len(node.args.defaults) :]
            for argument, default in zip(given, node.args.defaults, strict=True):
                yield argument.arg, ast.unparse(default)
            for argument, value in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
                if value is not None:
                    yield argument.arg, ast.unparse(value)
        elif isinstance(node, ast.ClassDef):
            for each in node.body:
                if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name) and each.value is not None:
                    yield each.target.id, ast.unparse(each.value)


def test_no_default_of_a_setting_is_written_twice() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), name): default
        for package in ("consumer", "pipeline")
        for path in (ROOT / package).rglob("*.py")
        if not SKIPPED & set(path.relative_to(ROOT).parts) and path.name not in TREE
        for name, default in defaults(path.read_text())
        if name in NAMES and default not in NOTHING
    }
    assert {place: default for place, default in found.items() if place not in OTHERS} == {}
    assert found.keys() >= OTHERS.keys()


def test_a_second_default_is_found() -> None:
    assert {"timeout_s", "give_up_after_s", "flush_mib"} <= NAMES
    source = "class A:\n  timeout_s: float = 120.0\ndef f(a, retries=1, *, device='cpu', b): ...\n"
    assert list(defaults(source)) == [("timeout_s", "120.0"), ("retries", "1"), ("device", "'cpu'")]
