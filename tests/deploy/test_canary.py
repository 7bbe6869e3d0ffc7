"""The template of a canary: the task of the service, with another image and its own alarms."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.cloudformation import TEMPLATE, Stack

CANARY = TEMPLATE.with_name("canary.yaml")
GIVEN = {"Application": "penstock-events", "ImageTag": "model-1", "StreamName": "events"}
FULL = GIVEN | {"DownstreamName": "enriched-events", "TablePrefix": "rows", "Cpu": "8192", "Memory": "32768"}


def canary(given: dict[str, Any]) -> Stack:
    return Stack(given | {"ImageTag": "model-2"}, CANARY, beside=Stack(given))


@pytest.mark.parametrize("given", [GIVEN, FULL])
def test_its_task_is_that_of_the_service_with_another_image(given: dict[str, Any]) -> None:
    tasks = [stack.resources["TaskDefinition"]["Properties"] for stack in (Stack(given), canary(given))]
    images = [task["ContainerDefinitions"][0].pop("Image") for task in tasks]
    assert images[1] == images[0].replace("model-1", "model-2") != images[0]
    assert [task.pop("Family") for task in tasks] == ["penstock-events", "penstock-events-canary"]
    assert tasks[0] == tasks[1]


def test_its_parameters_are_those_of_the_service_with_the_same_defaults() -> None:
    mine, theirs = (Stack(GIVEN, path).template["Parameters"] for path in (CANARY, TEMPLATE))
    assert mine.keys() <= theirs.keys()
    told = ("Type", "Default", "AllowedPattern", "AllowedValues", "MinValue", "MaxValue")
    assert [{key: each.get(key) for key in told} for each in mine.values()] == [
        {key: theirs[name].get(key) for key in told} for name in mine
    ]
    assert mine["DesiredCount"]["Default"] == 0


def test_its_log_and_its_figures_are_its_own_and_ecs_may_write_there() -> None:
    stack, service = canary(GIVEN), Stack(GIVEN)
    [log] = stack.of_type("AWS::Logs::LogGroup").values()
    assert log["LogGroupName"] == "/penstock/penstock-events-canary"
    [write] = [
        each
        for each in service.resources["ExecutionPolicy"]["Properties"]["PolicyDocument"]["Statement"]
        if each["Sid"] == "WriteLog"
    ]
    assert any(str(each).endswith(f"log-group:{log['LogGroupName']}:*") for each in write["Resource"])
    metrics = [each["MetricTransformations"][0] for each in stack.of_type("AWS::Logs::MetricFilter").values()]
    assert {each["MetricName"] for each in metrics} == {"Rows", "DeadLetters", "RecordAge"}
    assert {each["MetricNamespace"] for each in metrics} == {"Penstock/penstock-events-canary"}


def test_its_alarms_are_those_that_roll_a_deployment_back() -> None:
    stack, service = canary(GIVEN), Stack(GIVEN)
    alarms = stack.of_type("AWS::CloudWatch::Alarm")
    rolling = service.resources["Service"]["Properties"]["DeploymentConfiguration"]["Alarms"]["AlarmNames"]
    assert sorted(alarms) == sorted([*rolling, "AbsentAlarm"])
    for name, mine in [each for each in alarms.items() if each[0] in rolling]:
        theirs = service.resources[name]["Properties"]
        differ = {key for key in theirs if mine[key] != theirs[key]}
        assert differ <= {"AlarmName", "AlarmDescription", "Namespace", "Metrics"}, name
        assert "Penstock/penstock-events-canary" in str(mine)
        assert "'Penstock/penstock-events'" not in str(mine)
    assert {each["Value"] for each in stack.resolved(stack.template["Outputs"]).values()} == {
        f"{name}.Arn" for name in alarms
    }
