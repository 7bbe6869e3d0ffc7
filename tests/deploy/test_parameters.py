"""Parameters of the template from a configuration, and refusals with their calculation."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import assume, given
from hypothesis import settings as settled
from hypothesis import strategies as st

from consumer.cli import main
from consumer.config import profile
from consumer.config.load import load, parse
from consumer.config.settings import Settings
from deploy import changes
from deploy.ecs import SIZES, STOP_TIMEOUT_S
from deploy.parameters import APPLICATION, ATHENA, NOTHING_DURABLE_S, PREFIX, Sizing, parameters, problems
from deploy.templates import parameter_names, template
from tests.support.cloudformation import TEMPLATE, Stack

NAMES = st.from_regex(r"[a-zA-Z0-9_.-]{1,128}", fullmatch=True)
"""Of streams."""

GIVEN = {"Application": "penstock-events", "ImageTag": "model-1", "StreamName": "events"}
RAW: dict[str, Any] = {
    "stream": {"name": "events", "application": "penstock-events"},
    "model": {"factory": "examples.hello:Hello", "version": "1"},
    "sink": [{"type": "parquet", "url": "s3://bucket/enriched"}, {"type": "kinesis", "stream": "enriched-events"}],
    "dead_letter": {"url": "s3://bucket/dead-letter"},
}


def settings(**sections: dict[str, Any]) -> Settings:
    return parse(RAW | {name: RAW.get(name, {}) | given for name, given in sections.items()})


def refused(found: Settings, **sizing: Any) -> str:
    (line,) = problems(found, Sizing(**{"cpu": 4096, "memory_mib": 16384, "tasks": 2, "shards": 4, **sizing}))
    return line


def test_a_valid_configuration_is_rendered_as_parameters_of_the_template() -> None:
    sizing = Sizing(4096, 16384, tasks=2, shards=4, weights_mib=1024)
    assert list(problems(settings(), sizing)) == []
    stack = Stack(parameters(settings(), sizing) | {"ImageTag": "model-1"})
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


def test_a_size_that_the_template_does_not_offer() -> None:
    assert "4 vCPUs have 8192 to 30720 MiB, in steps of 1024" in refused(settings(), memory_mib=31744)
    for cpu in (512, 3000):
        assert f"Cpu={cpu}: the template takes 1024, 2048, 4096, 8192 or 16384" in refused(settings(), cpu=cpu)


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ({"gpus": 3}, ["Gpus=3: the template takes 1, 2, 4 or 8"]),
        ({"cpu": 64, "memory_mib": 12_288_000}, ["Cpu=64: ECS takes 128 to 196608", "the largest instances with GPUs"]),
    ],
)
def test_a_size_that_no_instance_with_gpus_has(size: dict[str, Any], told: list[str]) -> None:
    found = list(problems(settings(), Sizing(**{"cpu": 4096, "memory_mib": 16384, "tasks": 1, "gpus": 1, **size})))
    assert len(found) == len(told) and all(words in line for words, line in zip(told, found, strict=True))


def test_memory_that_is_too_little() -> None:
    found = settings(model={"replicas": 2, "memory_mib": 3000})
    # 1024 + 256 + 512 + 192 + 512 + 2 x 3000
    assert "= 8496 MiB, but a task has 8192" in refused(found, memory_mib=8192, weights_mib=1024)
    assert not list(problems(found, Sizing(4096, 9216, 2, 4, 1024)))


def test_replicas_that_are_auto_are_those_of_a_task(tmp_path: Path) -> None:
    """Replicas as a task resolves them there: one per GPU, else tuned, else one."""
    one, tuned = Sizing(4096, 8192, 2), Sizing(4096, 8192, 2, profile=measured(settings(), replicas=4))
    two_gpus = Sizing(4096, 8192, 2, gpus=2)
    measured_there = {"gpus": 4, "profile": measured(settings(), replicas=1)}
    found = settings(model={"memory_mib": 3000})
    assert not list(problems(found, one))
    assert "+ 4 x 3000 for replicas (as tuned) = " in refused(found, **asdict(tuned) | {"profile": tuned.profile})
    assert not list(problems(found, two_gpus))
    for other in ({}, {"device": "cpu", "replicas": 1}):
        said = refused(settings(model={"memory_mib": 3000} | other), **asdict(two_gpus) | measured_there)
        assert "4 x 3000 for replicas (one for each GPU)" in said, "gpu.yaml sets device and replicas"


def measured(found: Settings, replicas: int, cores: int = 4) -> profile.Profile:
    here = replace(profile.circumstances(found), cores=cores, memory_mib=8192, gpus=0, cpu="of Fargate")
    return profile.Profile(replicas, 1, 8, 0, 10.0, 100.0, "2026-11-27T00:00:00Z", here)


def test_a_profile_counts_in_a_task_of_the_size_that_it_was_measured_in(tmp_path: Path) -> None:
    (path := tmp_path / "penstock.toml").write_text(CONFIG)
    found = load(path)
    profile.write(measured(found, replicas=3), profile.path_of(path))
    task = {"vcpus": 4, "gpu_count": 0, "memory_mib": 8192}
    fits = profile.for_task(found, **task)
    assert fits.profile is not None and fits.profile.replicas == 3
    for other, why in (
        ({"vcpus": 2}, "cores was 4 and is 2"),
        ({"memory_mib": 4096}, "memory was"),
        ({"gpu_count": 1}, "gpus"),
    ):
        ignored = profile.for_task(found, **{**task, **other})
        assert ignored.profile is None and why in ignored.said


def test_a_profile_that_a_task_would_not_use_is_said(tmp_path: Path) -> None:
    (path := tmp_path / "penstock.toml").write_text(CONFIG)
    profile.write(measured(load(path), replicas=3), profile.path_of(path))
    words = ["deploy", "validate", "--config", str(path), "--memory"]
    assert CliRunner().invoke(main, [*words, "16384"]).output == "The deployment adds up.\n"
    result = CliRunner().invoke(main, [*words, "8192", "--cpu", "2048"])
    assert (result.exit_code, result.stdout) == (0, "The deployment adds up.\n")
    assert "penstock.profile.json is not used: cores was 4 and is 2" in result.stderr


def test_leases_and_tasks() -> None:
    assert "1 would be idle" in refused(settings(), tasks=5)
    assert "kcl.max_leases 1 x 2 tasks = 2, but there are 4 shards" in refused(settings(kcl={"max_leases": 1}))
    assert not list(problems(settings(kcl={"max_leases": 2}), Sizing(4096, 16384, 2, 4)))


def test_a_drain_that_ecs_would_cut() -> None:
    assert "120 s + 5 s to exit = 125 s" in refused(settings(drain={"budget_s": 120}))


def test_configurations_that_the_template_cannot_express_are_refused() -> None:
    two = [*RAW["sink"], {"type": "kinesis", "stream": "another"}]
    assert "2 Kinesis sinks" in refused(parse(RAW | {"sink": two}))
    assert "sink.0 is a stream" in refused(parse(RAW | {"sink": RAW["sink"][::-1]}))
    assert "Application=Events_1: the template takes" in refused(settings(stream={"application": "Events_1"}))
    for name in ("reviews-", "re--views"):
        assert "ECR takes no hyphen at the end" in refused(settings(stream={"application": name}))
    for prefix, why in (
        ("a/b", "the template takes what matches"),
        ("athena", "after 7 days"),
        ("enriched", "their own"),
    ):
        assert why in refused(parse(RAW | {"dead_letter": {"url": f"s3://another/{prefix}"}}))
    same = parse(RAW | {"dead_letter": {"url": "s3://another/enriched"}})
    assert "need prefixes of their own" in refused(same, gpus=1)
    assert "after 7 days" in refused(parse(RAW | {"dead_letter": {"url": "s3://another/athena"}}), gpus=1)
    assert "Fargate has no GPUs" in refused(settings(model={"device": "cuda"}))
    assert not list(problems(settings(model={"device": "cuda"}), Sizing(4096, 16384, 2, gpus=1)))


@pytest.mark.parametrize(("flush_s", "fits"), [(899, True), (900, False), (1800, False)])
def test_files_that_are_rarer_than_an_alarm_expects(flush_s: int, fits: bool) -> None:
    table = {**RAW["sink"][0], "flush_interval_s": flush_s}
    found = list(problems(parse(RAW | {"sink": [table]}), Sizing(4096, 16384, 2)))
    assert ["nothing-durable" in line for line in found] == ([] if fits else [True])
    sooner = list(problems(parse(RAW | {"sink": [table]}), Sizing(4096, 16384, 2), {"RecordAgeSeconds": "600"}))
    assert len(sooner) == 1 and "flush_interval_s" in sooner[0]


def test_the_alarms_window_is_that_of_the_template() -> None:
    alarm = Stack(GIVEN).resources["NothingDurableAlarm"]["Properties"]
    periods = {each["MetricStat"]["Period"] for each in alarm["Metrics"] if "MetricStat" in each}
    assert {period * alarm["EvaluationPeriods"] for period in periods} == {NOTHING_DURABLE_S}
    rules = Stack(GIVEN).resources["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert [each["Prefix"] for each in rules if each["Id"] == "results-of-athena"] == [f"{ATHENA}/"]


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


def test_a_parameter_more_is_taken_if_the_template_has_it(tmp_path: Path) -> None:
    (path := tmp_path / "penstock.toml").write_text(CONFIG)
    words = ["deploy", "render", "--config", str(path), "--set"]
    assert "AlarmEmail=a=b@c.org\n" in CliRunner().invoke(main, [*words, "AlarmEmail=a=b@c.org"]).output
    for wrong, why in (("Imagetag=1", "has no parameter Imagetag"), ("ImageTag", "Write NAME=VALUE")):
        result = CliRunner().invoke(main, [*words, wrong])
        assert result.exit_code == 2 and why in result.output


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ("Cpu=1024", "Cpu=1024, Memory=16384: 1 vCPU has 2048 to 8192 MiB, in steps of 1024"),
        ("Cpu=1024 Memory=2048", "+ 1 x 128 for replicas = "),
        ("Memory=much", "is not a whole number"),
        ("DesiredCount=-1", "DesiredCount=-1: the template takes 0 or more"),
        ("DesiredCount=1.5", "DesiredCount=1.5 is not a whole number"),
        ("DesiredCount=3 ShardCount=2", "3 tasks for 2 shards"),
        ("DeadLetterPrefix=enriched", "Table and dead letters need prefixes of their own"),
        ("TablePrefix=athena", "after 7 days"),
        ("Application=Other_App", "Application=Other_App: the template takes what matches"),
        ("ImageTag=x y", "ImageTag=x y: the template takes what matches"),
        ("VpcId=vpc-1234", "An existing VPC needs SubnetIds"),
        ("OnDemandWeight=0", "ECS takes no strategy without a weight"),
        ("OnDemandWeight=2000", "OnDemandWeight=2000: the template takes 0 to 1000"),
        ("LogDays=2", "LogDays=2: the template takes 1, 3, 5"),
        ("RetentionHours=8760 CrashJournalDays=365", "x 24 = 8760 hours"),
        ("RecordAgeSeconds=300", "fires if a record waits for more than RecordAgeSeconds=300"),
        ("DownstreamName=events", "is the stream that is read"),
        ("DeadLetterPercent=many", "takes a number"),
    ],
)
def test_a_parameter_that_is_chosen_by_name_is_checked_as_the_others(tmp_path: Path, pairs: str, told: str) -> None:
    (path := tmp_path / "penstock.toml").write_text(CONFIG)
    chosen = [pairs] if pairs == "ImageTag=x y" else pairs.split()
    words = ["--config", str(path), "--weights-mib", "1024", *(word for pair in chosen for word in ("--set", pair))]
    for command in ("validate", "render"):
        result = CliRunner().invoke(main, ["deploy", command, *words])
        assert result.exit_code == 2 and told in result.output, result.output
    fine = [
        "--set",
        "VpcId=vpc-1",
        "--set",
        "SubnetIds=subnet-1,subnet-2",
        "--set",
        "SpotWeight=1",
        "--set",
        "LogDays=3",
    ]
    assert CliRunner().invoke(main, ["deploy", "validate", "--config", str(path), *fine]).exit_code == 0


@settled(max_examples=25, deadline=None)
@given(
    application=st.from_regex(APPLICATION, fullmatch=True).filter(lambda name: 3 <= len(name) <= 41),
    stream=NAMES,
    downstream=st.none() | NAMES,
    prefixes=st.lists(st.from_regex(PREFIX, fullmatch=True), min_size=2, max_size=2, unique=True),
    size=st.sampled_from([(cpu, mib) for cpu, sold in SIZES.items() for mib in sold]),
    tasks=st.integers(0, 50),
    more=st.integers(0, 1000),
)
def test_rendered_parameters_arrive_in_a_task(
    application: str,
    stream: str,
    downstream: str | None,
    prefixes: list[str],
    size: tuple[int, int],
    tasks: int,
    more: int,
) -> None:
    """Through the lines that a shell passes on, the template's own rules, and the environment of its task."""
    assume(stream != downstream and "athena" not in prefixes)
    sinks: list[dict[str, Any]] = [{"type": "parquet", "url": f"s3://bucket/{prefixes[0]}"}]
    sinks += [{"type": "kinesis", "stream": downstream}] if downstream else []
    asked = parse(
        RAW
        | {"stream": {"name": stream, "application": application}, "sink": sinks}
        | {"dead_letter": {"url": f"s3://bucket/{prefixes[1]}"}}
    )
    sizing = Sizing(*size, tasks=tasks, shards=max(1, tasks + more))
    assert list(problems(asked, sizing)) == []
    rendered = parameters(asked, sizing) | {"ImageTag": "model-1"}
    line = shlex.join(f"{name}={value}" for name, value in rendered.items())
    stack = Stack(changes.given(shlex.split(line), parameter_names(template())))
    assert stack.mistakes() == []
    assert changes.changes(stack.parameters, rendered) == []
    (container,) = stack.resource("TaskDefinition")["Properties"]["ContainerDefinitions"]
    environment = container["Environment"]
    values = {each["Name"]: str(each["Value"]).replace("s3://Bucket/", "s3://bucket/") for each in environment}
    back = parse({"model": RAW["model"]}, values)
    assert (back.stream, back.sink, back.dead_letter) == (asked.stream, asked.sink, asked.dead_letter)


def test_what_is_rendered_for_gpus_is_what_their_template_takes(tmp_path: Path) -> None:
    (path := tmp_path / "penstock.toml").write_text(CONFIG)
    words = ["deploy", "render", "--config", str(path), "--cpu", "7000", "--memory", "28000"]
    result = CliRunner().invoke(main, [*words, "--gpus", "2", "--json", "--shards", "4", "--set", "ImageTag=1"])
    rendered = json.loads(result.stdout)["parameters"]
    stack = Stack(rendered, TEMPLATE.with_name("gpu.yaml"), beside=Stack(GIVEN))
    assert stack.mistakes() == []
    assert (rendered["Gpus"], rendered["Cpu"], "ShardCount" in rendered) == ("2", "7000", False)
    assert "Cpu=7000: the template takes" in CliRunner().invoke(main, words).output


def test_the_command_renders_as_text_and_as_json(tmp_path: Path) -> None:
    (path := tmp_path / "penstock.toml").write_text(CONFIG)
    words = ["deploy", "render", "--config", str(path)]
    lines = CliRunner().invoke(main, words).output.splitlines()
    said = json.loads(CliRunner().invoke(main, [*words, "--json"]).output)
    assert said["schema"] == "penstock.deploy.render/1"
    assert lines == [f"{name}={value}" for name, value in said["parameters"].items()]
    assert "TablePrefix=enriched" in lines
