"""The tasks, their service and their network in the CloudFormation template."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from consumer.config.drain import LEAVE_S
from consumer.config.sink_settings import ParquetSettings
from tests.support.cloudformation import TEMPLATE, Stack
from tests.support.template_stack import EXISTING_VPC, GIVEN, WITH_DOWNSTREAM, container, settings

DOCKERFILE = TEMPLATE.parents[2] / "Dockerfile"


def test_a_task_runs_as_the_images_user_on_a_root_that_it_cannot_write(stack: Stack) -> None:
    task = container(stack)
    assert task["User"] == re.search(r"--uid (\d+)", DOCKERFILE.read_text())[1]  # type: ignore[index]
    assert int(task["User"]) > 0
    assert task["ReadonlyRootFilesystem"] is True
    assert "Privileged" not in task


def test_tmp_is_writable_and_sized(stack: Stack) -> None:
    task = stack.resources["TaskDefinition"]["Properties"]
    (mount,) = container(stack)["MountPoints"]
    assert (mount["ContainerPath"], mount["ReadOnly"]) == ("/tmp", False)
    assert [volume["Name"] for volume in task["Volumes"]] == [mount["SourceVolume"]]
    assert "\nVOLUME /tmp\n" in DOCKERFILE.read_text()
    assert 21 <= task["EphemeralStorage"]["SizeInGiB"] <= 200


def test_a_drain_ends_before_the_task_is_killed(stack: Stack) -> None:
    drain, kcl, stop_s = settings(stack).drain, settings(stack).kcl, container(stack)["StopTimeout"]
    assert kcl.shutdown_grace_s + LEAVE_S <= drain.budget_s
    assert drain.budget_s + LEAVE_S < stop_s <= 120


def test_the_container_has_the_limits_of_its_task(stack: Stack) -> None:
    task = stack.resources["TaskDefinition"]["Properties"]
    assert (container(stack)["Cpu"], container(stack)["Memory"]) == (task["Cpu"], task["Memory"])


def test_the_task_has_the_images_health_check(stack: Stack) -> None:
    """ECS ignores the health check of the image, so both must be the same."""
    check, text = container(stack)["HealthCheck"], DOCKERFILE.read_text()
    image = re.search(r"HEALTHCHECK (.*?)\\\n +CMD (\[.*\])", text)
    assert image is not None
    assert check["Command"] == ["CMD", *json.loads(image[2])]
    options = dict(re.findall(r"--([\w-]+)=(\d+)", image[1]))
    assert {
        "interval": "Interval",
        "timeout": "Timeout",
        "retries": "Retries",
        "start-period": "StartPeriod",
    }.keys() == options.keys()
    assert [check[name] for name in ("Interval", "Timeout", "StartPeriod", "Retries")] == [
        int(options[name]) for name in ("interval", "timeout", "start-period", "retries")
    ]
    assert f"127.0.0.1:{settings(stack).health.port}/healthz" in check["Command"][-1]


@pytest.mark.parametrize("architecture", ["X86_64", "ARM64"])
def test_both_architectures(architecture: str) -> None:
    platform = Stack(GIVEN | {"Architecture": architecture}).resources["TaskDefinition"]["Properties"][
        "RuntimePlatform"
    ]
    assert platform == {"OperatingSystemFamily": "LINUX", "CpuArchitecture": architecture}


@pytest.mark.parametrize("given", [GIVEN, WITH_DOWNSTREAM])
def test_the_settings_of_a_task_name_the_resources_of_the_stack(given: dict[str, Any]) -> None:
    found = settings(Stack(given))
    assert (found.stream.name, found.stream.application) == ("events", "penstock-events")
    assert found.dead_letter.url == "s3://the-bucket/dead-letter"
    assert [sink.url if isinstance(sink, ParquetSettings) else sink.stream for sink in found.sink] == [
        "s3://the-bucket/enriched",
        *([given["DownstreamName"]] if "DownstreamName" in given else []),
    ]
    assert found.log.format == "json"


def test_a_bad_deployment_is_rolled_back(stack: Stack) -> None:
    deployment = stack.resources["Service"]["Properties"]["DeploymentConfiguration"]
    assert deployment["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    assert deployment["Alarms"] == {
        "Enable": True, "Rollback": True, "AlarmNames": ["RecordAgeAlarm", "DeadLetterRateAlarm"],
    }  # fmt: skip
    assert deployment["MinimumHealthyPercent"] == 100


def test_some_tasks_never_run_on_spot() -> None:
    service = Stack(GIVEN | {"OnDemandBase": 2, "OnDemandWeight": 1, "SpotWeight": 3}).resources["Service"][
        "Properties"
    ]
    assert service["CapacityProviderStrategy"] == [
        {"CapacityProvider": "FARGATE", "Base": 2, "Weight": 1},
        {"CapacityProvider": "FARGATE_SPOT", "Weight": 3},
    ]


def test_nothing_reaches_a_task(stack: Stack) -> None:
    group = stack.resources["TaskSecurityGroup"]["Properties"]
    assert "SecurityGroupIngress" not in group
    assert [(each["FromPort"], each["ToPort"]) for each in group["SecurityGroupEgress"]] == [(443, 443)]
    assert (
        stack.resources["Service"]["Properties"]["NetworkConfiguration"]["AwsvpcConfiguration"]["AssignPublicIp"]
        == "DISABLED"
    )


def test_a_new_vpc_has_a_way_to_aws() -> None:
    nat, endpoints = Stack(GIVEN), Stack(GIVEN | {"InterfaceEndpoints": "yes"})
    gateways = {"com.amazonaws.eu-west-1.s3", "com.amazonaws.eu-west-1.dynamodb"}
    assert "NatRoute" in nat.resources
    assert {each["ServiceName"] for each in nat.of_type("AWS::EC2::VPCEndpoint").values()} == gateways
    assert not endpoints.of_type("AWS::EC2::NatGateway")
    assert not endpoints.of_type("AWS::EC2::InternetGateway")
    services = {each["ServiceName"].split(".", 3)[3] for each in endpoints.of_type("AWS::EC2::VPCEndpoint").values()}
    assert services == {"s3", "dynamodb", "kinesis-streams", "ecr.api", "ecr.dkr", "logs", "monitoring"}


def test_an_existing_vpc_is_not_changed() -> None:
    stack = Stack(GIVEN | EXISTING_VPC)
    assert {each["Type"] for each in stack.resources.values() if each["Type"].startswith("AWS::EC2::")} == {
        "AWS::EC2::SecurityGroup"
    }
    network = stack.resources["Service"]["Properties"]["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert network["Subnets"] == EXISTING_VPC["SubnetIds"]
    assert stack.accepts("SubnetsOfTheVpc")
    assert not Stack(GIVEN | {"VpcId": "vpc-0a1b2c3d", "SubnetIds": [""]}).accepts("SubnetsOfTheVpc")
