"""Names contain units: durations are in seconds, with ``_s`` in JSON and ``_seconds`` in the metrics of Prometheus.
See docs/decisions/0008-units-in-names.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.metrics import Metrics

ROOT = Path(__file__).parents[2]
SHOWN_TO_USERS = ("consumer", "deploy", "examples", "pipeline/metrics", "pipeline/dead_letters", "pipeline/sinks")
"""Their dictionaries and data classes become JSON. Messages between the processes of a task are not for users."""

SPELT_OUT = re.compile(r"(^|.*_)(milli)?seconds(_.*)?")


def names_of(source: str) -> Iterator[tuple[int, str]]:
    """Lines and names that become JSON: keys that are written or read, and fields of classes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Dict):
            yield from ((key.lineno, str(key.value)) for key in node.keys if isinstance(key, ast.Constant))
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            yield node.lineno, str(node.slice.value)
        if isinstance(node, ast.ClassDef):
            fields = [each.target for each in node.body if isinstance(each, ast.AnnAssign)]
            yield from ((field.lineno, field.id) for field in fields if isinstance(field, ast.Name))


def test_durations_in_json_have_the_suffix_s() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for folder in SHOWN_TO_USERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, name in names_of(path.read_text())
        if SPELT_OUT.fullmatch(name)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "source", ['{"age_seconds": 1}', 'stats["for_seconds"]', "class A:\n    seconds_behind: float"]
)
def test_a_duration_that_is_spelt_out_is_found(source: str) -> None:
    assert [SPELT_OUT.fullmatch(name) is not None for _, name in names_of(source)] == [True]


def test_durations_in_metrics_have_the_suffix_seconds() -> None:
    names = {metric.name for metric in Metrics().registry.collect()}
    assert {"penstock_lag_seconds", "penstock_outage_seconds"} <= names
    assert not [name for name in names if re.search(r"_(s|ms|milliseconds)(_|$)", name)]
