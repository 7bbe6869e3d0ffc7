"""The reasons of ``penstock status`` are a closed set, and docs/operations.md explains each of its texts."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from consumer.admin.status.report import Kind

ROOT = Path(__file__).parents[2]

TEXTS = {
    Kind.PARENT: ["waits for parent X"],
    Kind.LEADER_DEAD: [
        "no owner, or its owner is dead, and there is no leader",
        "no owner, or its owner is dead; leader X dead",
    ],
    Kind.OWNER_DEAD: ["owner X is dead"],
    Kind.NO_OWNER: ["no owner; leader X assigns it"],
    Kind.MAX_LEASES: ["no owner: every worker is at max_leases"],
    Kind.NO_METRIC: ["no owner: worker X reports no metric"],
    Kind.HANDOFF: ["handoff from X to Y pending"],
    Kind.BISECTING: ["a record is being bisected"],
    Kind.MODEL_STUCK: ["the model is stuck"],
    Kind.SINK_REFUSED: ["the sink is refused"],
    Kind.NOT_BEGUN: ["X is not read, or is stuck"],
    Kind.NO_NEW_RECORDS: ["the stream has no new records"],
    Kind.NO_LEASE: ["it has no lease yet"],
    Kind.UNKNOWN: ["unknown"],
}
"""What the table says of each kind."""


def test_the_table_of_reasons_has_every_kind() -> None:
    assert set(TEXTS) == set(Kind)
    page = (ROOT / "docs" / "operations.md").read_text()
    table = page.split("| reason | what it means | what to do |\n")[1].split("\n\n")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines()[1:]]
    assert sorted(rows) == sorted(text for texts in TEXTS.values() for text in texts)


def test_each_text_that_the_code_has_is_told_in_the_table() -> None:
    """The constant words of a text are in a row of its kind."""
    for kind, constants in _texts_in_code():
        known = " ".join(" ".join(TEXTS[kind]).split())
        first = re.split(r"[:;,] | \d", constants)[0].strip()
        words = [word for word in re.findall(r"[a-z_]+", first) if word not in {"its", "within", "s"}]
        assert all(word in known for word in words[:5]), (kind, constants)


def _texts_in_code() -> list[tuple[Kind, str]]:
    found = []
    for name in ("reasons.py", "diagnose.py"):
        tree = ast.parse((ROOT / "consumer" / "admin" / "status" / name).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Why":
                kind, text = node.args[0], node.args[1]
                if isinstance(kind, ast.Attribute) and isinstance(text, ast.Constant | ast.JoinedStr):
                    parts = [text] if isinstance(text, ast.Constant) else text.values
                    words = " ".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
                    found.append((Kind[kind.attr], words))
    assert len(found) > 10
    return found
