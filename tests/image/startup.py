"""How long a task takes to start, in parts, from its log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

Entry = Mapping[str, Any]

PARTS: tuple[tuple[str, Callable[[Entry], bool]], ...] = (
    ("Python, imports, settings, the stream and its lease table", lambda entry: True),
    ("the model's process: imports, weights, a first batch", lambda entry: "replica 0 serves" in entry["msg"]),
    ("the sinks, and the start of the JVM", lambda entry: "KCL started" in entry["msg"]),
    ("KCL: the JVM, a lease, the first shard", lambda entry: " starts after " in entry["msg"]),
)
"""A part ends with the first such line after the end of the part before it."""

CONTAINER = "the container, until its first process"
FIRST_ROW = "the first rows from the model"


def parts(asked: float, began: float, entries: Sequence[Entry], first_row: float) -> dict[str, float]:
    """Seconds of each part. ``asked``, ``began``, ``first_row``: when the container was asked for, when its first
    process was made, when the model had answered.

    :raises AssertionError: if the log has not the line that ends a part.
    """
    found, last, left = {CONTAINER: began - asked}, began, list(entries)
    for name, ends in PARTS:
        index = next((index for index, entry in enumerate(left) if ends(entry)), None)
        assert index is not None, f"the log does not say the end of: {name}"
        at = datetime.fromisoformat(left[index]["ts"]).timestamp()
        found[name], last, left = at - last, at, left[index:]
    return found | {FIRST_ROW: max(first_row - last, 0.0)}
