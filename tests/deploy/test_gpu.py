"""The template for GPUs: the service of penstock.yaml on instances, with a replica of the model on each GPU."""

from __future__ import annotations

import json
from typing import Any

import pytest

from consumer.config.load import parse
from deploy.ecs import STOP_TIMEOUT_S
from deploy.templates import parameter_names, template
from tests.support.cloudformation import TEMPLATE, Stack, read

GPU = TEMPLATE.with_name("gpu.yaml")
GIVEN = {"Application": "penstock-events", "ImageTag": "model-1", "StreamName": "events"}
FULL = GIVEN | {"DownstreamName": "enriched-events", "TablePrefix": "rows", "DesiredCount": 2}
MODEL = {"model": {"factory": "examples.hello:Hello", "version": "1"}}


def gpu(given: dict[str, Any], **more: Any) -> Stack:
    return Stack(given | more, GPU, beside=Stack(given))


def container(stack: Stack) -> dict[str, Any]:
    (found,) = stack.resource("TaskDefinition")["Properties"]["ContainerDefinitions"]
    return dict(found)


def environment(task: dict[str, Any]) -> dict[str, str]:
    return {each["Name"]: str(each["Value"]) for each in task["Environment"]}


@pytest.mark.parametrize("given", [GIVEN, FULL])
def test_its_container_is_that_of_the_service_but_for_its_size_and_its_gpus(given: dict[str, Any]) -> None:
    theirs, mine = container(Stack(given)), container(gpu(given))
    apart = {"Cpu", "Memory", "ResourceRequirements", "Environment", "LogConfiguration"}
    assert {key: each for key, each in mine.items() if key not in apart} == {
        key: each for key, each in theirs.items() if key not in apart
    }
    more = {"PENSTOCK_MODEL__DEVICE": "cuda", "PENSTOCK_MODEL__REPLICAS": "1"}
    assert environment(mine) == environment(theirs) | more
    log = {"awslogs-group": "/penstock/penstock-events", "awslogs-stream-prefix": "gpu"}
    assert mine["LogConfiguration"]["Options"] == theirs["LogConfiguration"]["Options"] | log
    assert mine["StopTimeout"] == STOP_TIMEOUT_S
    (group,) = Stack(given).of_type("AWS::Logs::LogGroup").values()
    assert group["LogGroupName"] == log["awslogs-group"]


@pytest.mark.parametrize("count", [1, 4])
def test_a_task_has_a_replica_on_each_of_its_gpus_and_an_instance_has_as_many(count: int) -> None:
    stack = gpu(GIVEN, Gpus=count)
    task = container(stack)
    values = {name: value.replace("s3://Bucket/", "s3://bucket/") for name, value in environment(task).items()}
    model = parse(MODEL, values).model
    assert (model.replicas, model.device) == (count, "cuda")
    assert task["ResourceRequirements"] == [{"Type": "GPU", "Value": count}]
    launch = stack.resource("Instances")["Properties"]["ManagedInstancesProvider"]["InstanceLaunchTemplate"]
    wanted = launch["InstanceRequirements"]
    assert wanted["AcceleratorCount"] == {"Min": count, "Max": count}
    assert (wanted["AcceleratorTypes"], wanted["AcceleratorManufacturers"]) == (["gpu"], ["nvidia"])


def test_a_task_is_smaller_than_the_smallest_instance() -> None:
    given = gpu(GIVEN).parameters
    assert int(given["Cpu"]) < given["InstanceVcpus"] * 1024
    assert int(given["Memory"]) < given["InstanceMiB"]


def test_what_it_shares_has_the_same_declaration() -> None:
    mine, theirs = read(GPU)["Parameters"], read(TEMPLATE)["Parameters"]
    told = ("Type", "Default", "AllowedPattern", "MinValue", "MaxValue")
    for name in mine.keys() & theirs.keys() - {"Cpu", "Memory"}:
        assert [mine[name].get(key) for key in told] == [theirs[name].get(key) for key in told], name
    assert parameter_names(template(gpu=True)) == list(mine)


def test_roles_of_tasks_are_those_of_the_service_and_an_instance_has_its_own() -> None:
    stack = gpu(GIVEN)
    task = stack.resource("TaskDefinition")["Properties"]
    assert (task["ExecutionRoleArn"], task["TaskRoleArn"]) == ("ExecutionRole.Arn", "TaskRole.Arn")
    role = stack.resource("InstanceRole")["Properties"]
    assert role["RoleName"].startswith("ecsInstanceRole")
    assert stack.resource("InstanceProfile")["Properties"]["InstanceProfileName"].startswith("ecsInstanceRole")


def test_a_bad_deployment_is_rolled_back_by_the_alarms_of_the_application() -> None:
    service, theirs = gpu(GIVEN).resource("Service")["Properties"], Stack(GIVEN)
    mine = service["DeploymentConfiguration"]
    names = [theirs.resource(name)["Properties"]["AlarmName"] for name in ("RecordAgeAlarm", "DeadLetterRateAlarm")]
    assert mine["Alarms"] == {"Enable": True, "Rollback": True, "AlarmNames": names}
    assert mine["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}


def test_its_own_alarms_are_those_that_look_at_one_service() -> None:
    stack, theirs = gpu(FULL), Stack(FULL)
    alarms = stack.of_type("AWS::CloudWatch::Alarm")
    assert sorted(alarms) == ["BelowDesiredAlarm", "WorkersSilentAlarm"]
    for name, mine in alarms.items():
        other = theirs.resource(name)["Properties"]
        service = '"ServiceName", "Value": "penstock-events'
        text = json.dumps(other).replace(f'{service}"', f'{service}-gpu"')
        assert mine | {"AlarmName": ""} == json.loads(text) | {"AlarmName": ""}, name
        assert mine["AlarmName"] == other["AlarmName"].replace("events-", "events-gpu-")
    silent = [gpu(GIVEN | {"DesiredCount": count}).resource("WorkersSilentAlarm") for count in (0, 2)]
    assert [each["Properties"]["ActionsEnabled"] for each in silent] == [False, True]
