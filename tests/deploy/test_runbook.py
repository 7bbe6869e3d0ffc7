"""The commands in the runbook exist, and the first deployment can be followed.

Those of ``penstock`` are checked with the other documents'.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.session import Session
from click.testing import CliRunner

from consumer.aws import prices
from consumer.cli import main
from deploy import changes
from deploy.templates import parameter_names
from tests.support.cloudformation import TEMPLATE, Stack, read

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
    assert {kind for kind, _ in blocks} == {"sh", "shell", "toml", "python"}
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
    if verb == "wait":
        verb = {"services-stable": "describe-services"}[rest[0]]
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
        assert given or "$(cat" in words, (
            "the parameters that test_the_first_deployment_is_followed_from_nothing renders"
        )
        assert {re.split("[=,]", each)[0] for each in given} - {"RollbackTriggers"} <= known.keys()


def test_the_first_deployment_is_followed_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder: the files as written there, the commands that need no AWS, and a stack of what they wrote."""
    monkeypatch.chdir(tmp_path)
    section = RUNBOOK.partition("## First deployment\n")[2].partition("\n## ")[0]
    for kind, name in (("toml", "penstock.toml"), ("python", "sentiment.py")):
        [text] = re.findall(rf"(?s)```{kind}\n(.*?)```", section)
        text = textwrap.dedent(text)
        assert text.startswith(f"# {name}\n")
        (tmp_path / name).write_text(text)
    local = [line for line in lines(section) if line.startswith(("penstock config", "penstock deploy"))]
    assert [" ".join(line.split()[1:3]) for line in local] == ["config check", "deploy validate", "deploy render"]
    for line in local:
        words, _, into = line.partition(" > ")
        result = CliRunner().invoke(main, shlex.split(words)[1:])
        assert result.exit_code == 0, result.output
        if into:
            (tmp_path / into).write_text(result.stdout)
    template = tmp_path / "penstock.yaml"
    assert '{Name: "label", Type: "string"}' in template.read_text()
    stack = Stack(
        changes.given((tmp_path / "parameters.txt").read_text().split(), parameter_names(template.read_text())),
        template,
    )
    assert stack.mistakes() == []
    assert (stack.parameters["TablePrefix"], stack.parameters["DesiredCount"]) == ("enriched", "0")
    assert "--parameter-overrides $(cat parameters.txt)" in section


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


def test_the_commands_for_gpus_start_tasks_before_they_stop_the_others() -> None:
    section = RUNBOOK.partition("\n## GPUs\n")[2].partition("\n## ")[0]
    begun, waited, ended = (line for line in section.splitlines() if line.startswith("aws "))
    assert "--template-file gpu.yaml" in begun and re.search(r" DesiredCount=[1-9]", begun)
    assert waited.split()[2:4] == ["wait", "services-stable"]
    assert "--template-file penstock.yaml" in ended and ended.endswith(" DesiredCount=0")
