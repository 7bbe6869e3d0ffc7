"""Commands in messages can be copied into a shell: they are complete and quoted."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import botocore.session
import pytest

from consumer.aws.cli_commands import aws_command

ROOT = Path(__file__).parents[2]
FILES = [file for folder in ("consumer", "pipeline", "examples", "deploy") for file in (ROOT / folder).rglob("*.py")]
AWS = re.compile(r"\baws [a-z0-9-]+ [a-z]+-[a-z-]+")
OPEN_COMMAND = re.compile(
    r"(?:^|[\s`:(])(?:cd|chmod|chown|rm|mv|cp|mkdir|kill|export|penstock [a-z-]+|aws [a-z0-9]+) [^.;,`]*$"
)
"""The beginning of a command up to a value."""
QUOTING = ("join", "quote")
"""Functions of shlex."""


@cache
def nodes() -> list[tuple[str, ast.AST]]:
    """The calls and texts of the product, with their places."""
    return [
        (f"{file.relative_to(ROOT)}:{node.lineno}", node)
        for file in FILES
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.Call | ast.JoinedStr | ast.Constant)
    ]


def unquoted(text: ast.JoinedStr) -> Iterator[str]:
    """The values of an f-string that a command takes as they are."""
    for before, value in zip(text.values, text.values[1:], strict=False):
        if not isinstance(before, ast.Constant) or not isinstance(value, ast.FormattedValue):
            continue
        if OPEN_COMMAND.search(str(before.value)) and not is_quoted(value.value):
            yield ast.unparse(value)


def is_quoted(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in QUOTING


def test_values_in_printed_commands_are_quoted() -> None:
    wrong = [(at, value) for at, node in nodes() if isinstance(node, ast.JoinedStr) for value in unquoted(node)]
    assert wrong == []


def test_a_command_of_the_aws_cli_says_that_it_needs_it() -> None:
    """Only :func:`aws_command` writes one, except in docstrings."""
    wrong = [
        (at, found[0])
        for at, node in nodes()
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value
        if (found := AWS.search(node.value)) and "cli_commands.py" not in at
    ]
    assert wrong == []


def calls() -> list[tuple[str, ast.Call]]:
    return [
        (at, node)
        for at, node in nodes()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "aws_command"
    ]


@pytest.mark.parametrize(("at", "call"), calls())
def test_a_command_of_the_aws_cli_has_the_options_that_aws_requires(at: str, call: ast.Call) -> None:
    service, operation = (word.value for word in call.args if isinstance(word, ast.Constant))
    model = botocore.session.get_session().get_service_model(str(service))
    assert operation in model.operation_names
    shape = model.operation_model(str(operation)).input_shape
    assert shape is not None
    given = {word.arg for word in call.keywords if word.arg}
    for word in call.keywords:
        if word.arg is None:
            given |= members_of(ROOT / at.partition(":")[0], word.value)
    assert given <= shape.members.keys()
    assert given >= set(shape.required_members)
    assert {"StreamName", "StreamARN"} & given


def members_of(file: Path, name: ast.expr) -> set[str]:
    """The keys of the dictionaries that the file assigns to a name."""
    assert isinstance(name, ast.Name)
    return {
        str(key.value)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
        if any(isinstance(target, ast.Name) and target.id == name.id for target in node.targets)
        for key in node.value.keys
        if isinstance(key, ast.Constant)
    }


def test_options_are_named_and_quoted_as_the_aws_cli_takes_them() -> None:
    text = aws_command("kinesis", "UpdateMaxRecordSize", StreamARN="a b", MaxRecordSizeInKiB="2048")
    assert text.startswith("with the AWS CLI: ")
    words = shlex.split(text.removeprefix("with the AWS CLI: "))
    assert words == [
        "aws",
        "kinesis",
        "update-max-record-size",
        "--stream-arn",
        "a b",
        "--max-record-size-in-ki-b",
        "2048",
    ]
