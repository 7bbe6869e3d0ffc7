"""The policy in docs/security.md, and what is said about it there."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"

ACTION_OF = {
    "s3:HeadObject": "s3:GetObject",
    "s3:ListObjectsV2": "s3:ListBucket",
}
"""Where an operation is permitted by an action of another name."""

PREFIX_OF = {"monitoring": "cloudwatch"}
"""Where a service has another name in credentials than in policies."""


def statements() -> list[dict[str, Any]]:
    found = re.search(r"<!-- begin policy -->\n```json\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    assert found is not None
    made: list[dict[str, Any]] = json.loads(found[1])["Statement"]
    return made


def actions() -> set[str]:
    return {action for statement in statements() for action in statement["Action"]}


def explained() -> dict[str, str]:
    """Every action in the table, and when it is needed: ``always`` or ``sometimes``."""
    return dict(re.findall(r"(?m)^\| `(\w+:\w+)` \| (\w+) \| [^|]+ \|$", DOCUMENT.read_text()))


def left_out() -> set[str]:
    """Operations of KCL that are not permitted."""
    table = DOCUMENT.read_text().partition("| operation of KCL |")[2].partition("\n\n")[0]
    return {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def needed(calls: dict[str, dict[str, int]]) -> set[str]:
    """The actions that permit what the local AWS was asked for."""
    operations = {
        f"{PREFIX_OF.get(service, service)}:{operation}" for service, counted in calls.items() for operation in counted
    }
    return {ACTION_OF.get(operation, operation) for operation in operations}


def permits(action: str, resource: str, names: dict[str, str]) -> bool:
    """Whether a statement allows ``action`` on ``resource``, with ``names`` put in for the words in capitals."""
    for statement in statements():
        if action in statement["Action"]:
            for pattern in statement["Resource"]:
                if fnmatchcase(resource, re.sub("|".join(names), lambda word: names[word[0]], pattern)):
                    return True
    return False
