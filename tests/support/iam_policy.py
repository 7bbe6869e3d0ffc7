"""The policy in docs/security.md, and the explanations below it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"

ACTION_OF = {
    "s3:HeadObject": "s3:GetObject",
    "s3:ListObjectsV2": "s3:ListBucket",
}
"""Operations that are permitted by an action of another name."""

FREE = {"GetCallerIdentity"}
"""Operations that need no permission."""

PREFIX_OF = {"monitoring": "cloudwatch"}
"""Services whose name in credentials differs from that in policies."""


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


@dataclass(frozen=True)
class Call:
    """What IAM is asked for one request: an action on a resource. ``resource`` is ``""`` if the request names none."""

    action: str
    resource: str

    @classmethod
    def of(cls, asked: Mapping[str, Any], region: str = "us-east-1", account: str = "123456789012") -> Call:
        """From an entry of ``LocalAWS.asked``."""
        service, name = asked["service"], asked["resource"]
        operation = f"{PREFIX_OF.get(service, service)}:{asked['operation']}"
        action = ACTION_OF.get(operation, operation)
        place = {
            "kinesis": f"arn:aws:kinesis:{region}:{account}:stream/",
            "dynamodb": f"arn:aws:dynamodb:{region}:{account}:table/",
            "s3": "arn:aws:s3:::",
        }
        return cls(action, f"{place[service]}{name}" if name else "")


Right = tuple[str, str]
"""A statement's ``Sid``, and one of its actions."""


def rights_of(statements: Iterable[Mapping[str, Any]]) -> set[Right]:
    return {(statement["Sid"], action) for statement in statements for action in statement["Action"]}


def allowing(call: Call, statements: Iterable[Mapping[str, Any]]) -> set[Right]:
    """The rights that permit a call; a call that names no resource is permitted by its action alone."""
    return {
        (statement["Sid"], call.action)
        for statement in statements
        if call.action in statement["Action"]
        and (not call.resource or any(fnmatchcase(call.resource, pattern) for pattern in statement["Resource"]))
    }


def used(asked: Iterable[Mapping[str, Any]], statements: list[dict[str, Any]]) -> tuple[set[Call], set[Right]]:
    """Of these requests, those that no statement permits, and the rights that the others use."""
    calls = {Call.of(each) for each in asked if each["operation"] not in FREE}
    uses = {call: allowing(call, statements) for call in calls}
    return {call for call, rights in uses.items() if not rights}, {
        right for rights in uses.values() for right in rights
    }


def named(statements: list[dict[str, Any]], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Statements of the document with ``names`` put in for the words in capitals."""
    words = sorted(names, key=len, reverse=True)
    text = re.sub(r"\b(" + "|".join(words) + r")\b", lambda word: names[word[0]], json.dumps(statements))
    found: list[dict[str, Any]] = json.loads(text)
    return found


def permits(action: str, resource: str, names: dict[str, str]) -> bool:
    """Whether a statement allows ``action`` on ``resource``, with ``names`` in place of the words in capitals."""
    for statement in statements():
        if action in statement["Action"]:
            for pattern in statement["Resource"]:
                if fnmatchcase(resource, re.sub("|".join(names), lambda word: names[word[0]], pattern)):
                    return True
    return False
