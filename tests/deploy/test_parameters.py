"""Parameters of the template from a configuration, and what is refused, with its sum."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from consumer.cli import main
from consumer.config.load import parse
from consumer.config.settings import Settings
from deploy.fargate import SIZES, STOP_TIMEOUT_S
from deploy.parameters import Wish, parameters, problems
from tests.support.cloudformation import Stack

GIVEN = {"Application": "penstock-events", "ImageTag": "model-1", "StreamName": "events"}
RAW: dict[str, Any] = {
    "stream": {"name": "events", "application": "penstock-events"},
    "model": {"factory": "examples.hello:Hello", "version": "1"},
    "sink": [{"type": "parquet", "url": "s3://bucket/enriched"}, {"type": "kinesis", "stream": "enriched-events"}],
    "dead_letter": {"url": "s3://bucket/dead-letter"},
}


def settings(**sections: dict[str, Any]) -> Settings:
    return parse(RAW | {name: RAW.get(name, {}) | given for name, given in sections.items()})


def refused(found: Settings, **wish: Any) -> str:
    (line,) = problems(found, Wish(**{"cpu": 4096, "memory_mib": 16384, "tasks": 2, "shards": 4, **wish}))
    return line


def test_what_adds_up_is_rendered_and_is_what_the_template_takes() -> None:
    wish = Wish(4096, 16384, tasks=2, shards=4, weights_mib=1024)
    assert list(problems(settings(), wish)) == []
    stack = Stack(parameters(settings(), wish) | {"ImageTag": "model-1"})
    assert all(stack.accepts(rule) for rule in stack.template["Rules"])
    environment = stack.resources["TaskDefinition"]["Properties"]["ContainerDefinitions"][0]["Environment"]
    values = {each["Name"]: each["Value"].replace("s3://Bucket/", "s3://bucket/") for each in environment}
    round_trip = parse({"model": RAW["model"]}, values)
    assert (round_trip.stream, round_trip.sink, round_trip.dead_letter) == (
        settings().stream, settings().sink, settings().dead_letter,
    )  # fmt: skip


@pytest.mark.parametrize("cpu", SIZES)
def test_the_template_takes_the_sizes_that_we_take(cpu: int) -> None:
    for mib in range(1024, 126 * 1024, 1024):
        stack = Stack(GIVEN | {"Cpu": str(cpu), "Memory": str(mib)})
        assert all(stack.accepts(rule) for rule in stack.template["Rules"]) is (mib in SIZES[cpu])


def test_the_template_stops_a_task_when_we_think() -> None:
    (container,) = Stack(GIVEN).resources["TaskDefinition"]["Properties"]["ContainerDefinitions"]
    assert container["StopTimeout"] == STOP_TIMEOUT_S


def test_a_size_that_fargate_does_not_sell() -> None:
    assert "Choose 8192 to 30720 MiB in steps of 1024" in refused(settings(), memory_mib=31744)
    assert "1024, 2048, 4096, 8192, 16384" in refused(settings(), cpu=3000)


def test_memory_that_is_too_little() -> None:
    found = settings(model={"replicas": 2, "memory_mib": 3000})
    # 1024 + 256 + 512 + 192 + 512 + 2 x 3000
    assert "= 8496 MiB, but a task has 8192" in refused(found, memory_mib=8192, weights_mib=1024)
    assert not list(problems(found, Wish(4096, 9216, 2, 4, 1024)))


def test_leases_and_tasks() -> None:
    assert "1 would be idle" in refused(settings(), tasks=5)
    assert "kcl.max_leases 1 x 2 tasks = 2, but there are 4 shards" in refused(settings(kcl={"max_leases": 1}))
    assert not list(problems(settings(kcl={"max_leases": 2}), Wish(4096, 16384, 2, 4)))


def test_a_drain_that_ecs_would_cut() -> None:
    assert "120 s + 5 s to exit = 125 s" in refused(settings(drain={"budget_s": 120}))


def test_what_the_template_has_no_place_for() -> None:
    two = [*RAW["sink"], {"type": "kinesis", "stream": "another"}]
    assert "2 Kinesis sinks" in refused(parse(RAW | {"sink": two}))
    assert "takes one prefix" in refused(parse(RAW | {"dead_letter": {"url": "s3://bucket/a/b"}}))


CONFIG = """
[stream]
name = "events"
application = "penstock-events"
[model]
factory = "examples.hello:Hello"
version = "1"
[[sink]]
type = "parquet"
url = "s3://bucket/enriched"
[dead_letter]
url = "s3://bucket/dead-letter"
"""


def test_the_command_refuses_with_the_sums_and_exit_code_2(tmp_path: Path) -> None:
    (path := tmp_path / "penstock.toml").write_text(CONFIG)
    words = ["deploy", "validate", "--config", str(path), "--tasks", "3"]
    assert CliRunner().invoke(main, [*words, "--shards", "3"]).output == "The deployment adds up.\n"
    result = CliRunner().invoke(main, [*words, "--shards", "2", "--memory", "1024"])
    assert result.exit_code == 2
    assert result.output.startswith("penstock: the deployment does not add up:\n")
    assert len(result.output.splitlines()) == 4


def test_the_command_renders_as_text_and_as_json(tmp_path: Path) -> None:
    (path := tmp_path / "penstock.toml").write_text(CONFIG)
    words = ["deploy", "render", "--config", str(path)]
    lines = CliRunner().invoke(main, words).output.splitlines()
    said = json.loads(CliRunner().invoke(main, [*words, "--json"]).output)
    assert said["schema"] == "penstock.deploy.render/1"
    assert lines == [f"{name}={value}" for name, value in said["parameters"].items()]
    assert "TablePrefix=enriched" in lines
