"""The metrics, alarms and logs in the CloudFormation template."""

from __future__ import annotations

import io
import json
import logging
import re
from pathlib import Path
from typing import Any

import jmespath

from consumer.logs import JsonLines
from consumer.stats_line import StatsLines
from pipeline.metrics import Metrics
from tests.support.cloudformation import TEMPLATE, Stack
from tests.support.template_stack import GIVEN, container

RUNBOOK = TEMPLATE.parents[1] / "RUNBOOK.md"


def test_every_metric_is_a_number_in_the_line_that_a_task_logs(stack: Stack) -> None:
    now: dict[str, Any] = {"by_shard": {}, "stuck": {}, "unread": {}, "outages": [], "age_s": 0.0}
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    record = logging.LogRecord("penstock.stats", logging.INFO, "", 0, "stats", None, None)
    record.stats = StatsLines().next(Metrics().snapshot() | now)
    handler.handle(record)
    line = json.loads(stream.getvalue())
    filters = stack.of_type("AWS::Logs::MetricFilter")
    assert filters
    for each in filters.values():
        logger = re.fullmatch(r'\{ \$\.logger = "(.*)" \}', each["FilterPattern"])
        assert logger is not None and logger[1] == line["logger"]
        (made,) = each["MetricTransformations"]
        value = jmespath.search(made["MetricValue"].removeprefix("$."), line)
        assert isinstance(value, int | float), made["MetricValue"]


def read_by(alarm: dict[str, Any]) -> set[tuple[str, str]]:
    """Namespace and name of each metric that an alarm uses."""
    if "MetricName" in alarm:
        return {(alarm["Namespace"], alarm["MetricName"])}
    stats = [each["MetricStat"]["Metric"] for each in alarm["Metrics"] if "MetricStat" in each]
    return {(each["Namespace"], each["MetricName"]) for each in stats}


def test_every_alarm_uses_a_metric_that_is_published(stack: Stack) -> None:
    made = {
        (one["MetricNamespace"], one["MetricName"])
        for each in stack.of_type("AWS::Logs::MetricFilter").values()
        for one in each["MetricTransformations"]
    }
    aws = {
        ("AWS/Kinesis", "GetRecords.IteratorAgeMilliseconds"),
        ("ECS/ContainerInsights", "DesiredTaskCount"),
        ("ECS/ContainerInsights", "RunningTaskCount"),
    }
    used = {metric for alarm in stack.of_type("AWS::CloudWatch::Alarm").values() for metric in read_by(alarm)}
    assert used <= made | aws
    assert made <= used
    (cluster,) = stack.of_type("AWS::ECS::Cluster").values()
    assert cluster["ClusterSettings"] == [{"Name": "containerInsights", "Value": "enabled"}]


def test_every_alarm_notifies_the_topic(stack: Stack) -> None:
    alarms = stack.of_type("AWS::CloudWatch::Alarm")
    assert len(alarms) == 9
    for name, alarm in alarms.items():
        assert alarm["AlarmActions"] == alarm["OKActions"] == ["AlarmTopic"], name
        assert alarm.get("ActionsEnabled", True) is not False or name == "WorkersSilentAlarm"


def test_silence_is_an_alarm_once_there_are_tasks(stack: Stack) -> None:
    with_tasks = Stack(GIVEN | {"DesiredCount": 2}).resources["WorkersSilentAlarm"]["Properties"]
    without = stack.resources["WorkersSilentAlarm"]["Properties"]
    assert (with_tasks["ActionsEnabled"], without["ActionsEnabled"]) == (True, False)
    assert with_tasks["TreatMissingData"] == "breaching"


def test_every_alarm_has_its_section_in_the_runbook(stack: Stack) -> None:
    headings = anchors(RUNBOOK)
    for name, alarm in stack.of_type("AWS::CloudWatch::Alarm").items():
        link = re.search(r" deploy/RUNBOOK\.md#([\w-]+)$", alarm["AlarmDescription"])
        assert link is not None, name
        assert link[1] in headings, name
        assert alarm["AlarmName"] == f"penstock-events-{link[1]}"


def anchors(document: Path) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    titles = re.findall(r"(?m)^#+ (.+)$", document.read_text())
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_dashboard_has_every_alarm(stack: Stack) -> None:
    body = json.loads(stack.resources["Dashboard"]["Properties"]["DashboardBody"])
    (shown,) = [each["properties"]["alarms"] for each in body["widgets"] if each["type"] == "alarm"]
    assert {each.removesuffix(".Arn") for each in shown} == stack.of_type("AWS::CloudWatch::Alarm").keys()


def test_logs_do_not_stay_for_ever(stack: Stack) -> None:
    (logs,) = stack.of_type("AWS::Logs::LogGroup").values()
    assert logs["RetentionInDays"] == 30
    assert container(stack)["LogConfiguration"]["Options"]["awslogs-group"] == "Logs"
