"""The commands in the runbook exist. Those of ``penstock`` are checked with the other documents'."""

from __future__ import annotations

import re
import shlex
from functools import cache
from typing import Any

import pytest
from botocore import xform_name
from botocore.session import Session

from consumer.aws import prices
from tests.support.cloudformation import TEMPLATE, read

RUNBOOK = (TEMPLATE.parents[1] / "RUNBOOK.md").read_text()

DEPLOY = {"--stack-name", "--template-file", "--capabilities", "--parameter-overrides"}
"""The AWS CLI implements ``cloudformation deploy`` with several operations."""


def commands() -> list[list[str]]:
    blocks = re.findall(r"```shell\n(.*?)```", RUNBOOK, flags=re.DOTALL)
    return [shlex.split(line) for block in blocks for line in lines(block)]


def lines(block: str) -> list[str]:
    found = [line.strip() for line in block.splitlines()]
    return [line for line in found if line and not line.startswith("#")]


MARK = "# checked against AWS's API, not run"


def test_what_is_not_run_is_marked_and_what_is_not_marked_is_run() -> None:
    """``tests/e2e/test_operations.py`` runs every block without the mark."""
    blocks = re.findall(r"```(\w+)\n(.*?)```", RUNBOOK, flags=re.DOTALL)
    assert {kind for kind, _ in blocks} == {"sh", "shell"}
    assert all(MARK not in text for kind, text in blocks if kind == "sh")
    run = {line.split()[1] for kind, text in blocks if kind == "shell" and MARK not in text for line in lines(text)}
    assert run == {"kinesis", "dynamodb"}


def test_every_sum_of_the_cost_levers_is_right_and_its_prices_are_those_of_the_file() -> None:
    section = RUNBOOK.partition("## Cost levers")[2].partition("\n## ")[0]
    sums = re.findall(r"`([0-9 \u00d7÷+().-]+) = ([0-9.]+)`", section)
    assert len(sums) == 11
    known = {f"{price:g}" for price in prices.load("us-east-1").items.values()}
    for left, right in sums:
        value = eval(left.replace("\u00d7", "*").replace("÷", "/"))
        assert f"{value:.{len(right.partition('.')[2])}f}" == right, left
        used = {f"{float(each):g}" for each in re.findall(r"0\.\d+", left)} - {f"{float(each[1]):g}" for each in sums}
        assert used <= known, left


@cache
def operations(service: str) -> dict[str, Any]:
    model = Session().get_service_model(service)
    return {xform_name(name, "-"): model.operation_model(name) for name in model.operation_names}


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_of_aws_is_an_operation_with_its_parameters(words: list[str]) -> None:
    program, service, verb, *rest = words
    options = {word for word in rest if word.startswith("--")}
    assert program == "aws"
    if (service, verb) == ("cloudformation", "deploy"):
        assert DEPLOY - {"--capabilities"} <= options <= DEPLOY
        return
    members = operations(service)[verb].input_shape
    assert options <= {"--" + xform_name(name, "-") for name in members.members}
    assert options >= {"--" + xform_name(name, "-") for name in members.required_members}


def test_every_parameter_that_is_given_is_one_of_the_template() -> None:
    for words in [each for each in commands() if {"--template-file", "--use-previous-template"} & {*each}]:
        stack = words[words.index("--stack-name") + 1]
        path = next((TEMPLATE.with_name(f"{own}.yaml") for own in ("canary", "gpu") if stack.endswith(own)), TEMPLATE)
        given = [
            found[1] for word in words if (found := re.match(r"(?:ParameterKey=)?(\w+)[=,]?", word)) and "=" in word
        ]
        known = read(path)["Parameters"]
        assert given
        assert {re.split("[=,]", each)[0] for each in given} - {"RollbackTriggers"} <= known.keys()


def test_every_setting_that_is_named_exists() -> None:
    text = (TEMPLATE.parents[2] / "docs" / "configuration.md").read_text()
    named = set(re.findall(r"`((?:dead_letter|health|stream|kcl|model|drain|batch)\.\w+)`", RUNBOOK))
    assert named
    assert {name for name in named if f"| `{name}` |" not in text} == set()


def test_it_has_a_section_for_everything_that_is_done() -> None:
    wanted = {
        "First deployment", "Model update", "A canary", "Roll back", "Reshard", "Replay", "Poison flood", "Stuck shard",
        "Lost lease table", "Throttled table", "Spot storm", "KCL 3.1 to 3.5", "Cost levers", "Game days",
    }  # fmt: skip
    assert wanted <= set(re.findall(r"(?m)^## (.+)$", RUNBOOK))
