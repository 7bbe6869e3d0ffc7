"""The CloudFormation template as stacks with several sets of parameters. Does not call AWS."""

from __future__ import annotations

import io
import json
import logging
import re
from pathlib import Path
from typing import Any

import jmespath
import pytest

from consumer.config.drain import LEAVE_S
from consumer.config.load import parse
from consumer.config.settings import Settings
from consumer.config.sink_settings import ParquetSettings
from consumer.logs import JsonLines
from consumer.stats_line import StatsLines
from deploy.templates import LARGEST_BYTES
from pipeline.metrics import Metrics
from pipeline.table.schema import IDENTITY
from tests.support import iam_policy
from tests.support.alarms import in_alarm
from tests.support.cloudformation import PSEUDO, TEMPLATE, Stack

GIVEN = {"Application": "penstock-events", "ImageTag": "model-1", "StreamName": "events"}
WITH_DOWNSTREAM = GIVEN | {"DownstreamName": "enriched-events"}
EXISTING_VPC = {"VpcId": "vpc-0a1b2c3d", "SubnetIds": ["subnet-0a1b2c3d", "subnet-1a1b2c3d"]}
MODEL = {"model": {"factory": "examples.hello:Hello", "version": "1"}}

RUNBOOK = TEMPLATE.parents[1] / "RUNBOOK.md"
DOCKERFILE = TEMPLATE.parents[2] / "Dockerfile"

KEPT = {"AWS::Kinesis::Stream", "AWS::S3::Bucket", "AWS::S3::BucketPolicy", "AWS::ECR::Repository"}
"""What outlives the stack, but does not stand in the way after a creation that failed."""

TYPES = {"string": "string", "int64": "bigint", "timestamp[ms, tz=UTC]": "timestamp"}
"""Types of Arrow and of Athena."""


@pytest.fixture(scope="module")
def stack() -> Stack:
    return Stack(GIVEN)


def container(stack: Stack) -> dict[str, Any]:
    (found,) = stack.resources["TaskDefinition"]["Properties"]["ContainerDefinitions"]
    return dict(found)


def settings(stack: Stack) -> Settings:
    """The settings of a task of the stack: the model of its image, and the environment of its definition."""
    environment = {each["Name"]: each["Value"] for each in container(stack)["Environment"]}
    return parse(
        MODEL, {name: value.replace("s3://Bucket/", "s3://the-bucket/") for name, value in environment.items()}
    )


def statements(stack: Stack, policy: str) -> list[dict[str, Any]]:
    return list(stack.resources[policy]["Properties"]["PolicyDocument"]["Statement"])


# ---------------------------------------------------------------- the whole


def test_it_fits_into_one_request() -> None:
    """CreateStack takes 51,200 bytes without a bucket; the columns of a model come on top."""
    assert TEMPLATE.stat().st_size < LARGEST_BYTES - 1_100


def test_only_the_parameters_without_a_default_have_to_be_given() -> None:
    needed = {name for name, given in Stack(GIVEN).template["Parameters"].items() if "Default" not in given}
    assert needed == GIVEN.keys()


@pytest.mark.parametrize(
    ("cpu", "memory", "sold"),
    [("1024", "2048", True), ("1024", "9216", False), ("4096", "16384", True), ("4096", "4096", False),
     ("8192", "17408", False), ("16384", "122880", True)],
)  # fmt: skip
def test_only_sizes_that_fargate_sells_are_taken(cpu: str, memory: str, sold: bool) -> None:
    stack = Stack(GIVEN | {"Cpu": cpu, "Memory": memory})
    assert all(stack.accepts(rule) for rule in stack.template["Rules"]) is sold


def test_every_choice_of_cpu_has_a_rule(stack: Stack) -> None:
    for cpu in stack.template["Parameters"]["Cpu"]["AllowedValues"]:
        assert not all(Stack(GIVEN | {"Cpu": cpu, "Memory": "1"}).accepts(rule) for rule in stack.template["Rules"])


# ---------------------------------------------------------------- data


@pytest.mark.parametrize(("mode", "shards"), [("PROVISIONED", 4), ("ON_DEMAND", None)])
def test_streams_are_encrypted_in_both_modes(mode: str, shards: int | None) -> None:
    streams = Stack(WITH_DOWNSTREAM | {"StreamMode": mode}).of_type("AWS::Kinesis::Stream")
    assert {each["Name"] for each in streams.values()} == {"events", "enriched-events"}
    for each in streams.values():
        assert each["StreamEncryption"]["EncryptionType"] == "KMS"
        assert each.get("ShardCount") == shards


def test_an_existing_stream_is_not_changed() -> None:
    assert Stack(GIVEN | {"CreateStream": "no"}).of_type("AWS::Kinesis::Stream") == {}


def test_resources_with_data_outlive_the_stack(stack: Stack) -> None:
    for name, each in Stack(WITH_DOWNSTREAM).resources.items():
        if each["Type"] in KEPT:
            assert (each["DeletionPolicy"], each["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain"), name


def test_the_bucket_is_private_encrypted_and_versioned(stack: Stack) -> None:
    bucket = stack.resources["Bucket"]["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert bucket["BucketEncryption"] and bucket["VersioningConfiguration"] == {"Status": "Enabled"}


def test_nothing_expires_but_the_crash_journal_and_answers_of_athena(stack: Stack) -> None:
    rules = stack.resources["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    expiring = {each.get("Prefix") for each in rules if "ExpirationInDays" in each}
    assert expiring == {"dead-letter.suspects/", "athena/"}
    assert {each.get("Prefix") for each in rules if "NoncurrentVersionExpiration" in each} == expiring


def test_the_crash_journal_outlives_the_longest_retention(stack: Stack) -> None:
    parameters = stack.template["Parameters"]
    assert parameters["CrashJournalDays"]["MinValue"] * 24 > parameters["RetentionHours"]["MaxValue"]


@pytest.mark.parametrize(
    ("given", "mistakes"),
    [
        ({}, []),
        ({"OnDemandWeight": 0, "SpotWeight": 1}, []),
        ({"OnDemandWeight": 0, "SpotWeight": 0}, ["SomeCapacity"]),
        ({"TablePrefix": "athena"}, ["PrefixesApart"]),
        ({"OldTablePrefix": "athena"}, ["PrefixesApart"]),
        ({"DeadLetterPrefix": "athena"}, ["PrefixesApart"]),
        ({"DeadLetterPrefix": "enriched"}, ["PrefixesApart"]),
        ({"CrashJournalDays": 30}, ["CrashJournalDays"]),
    ],
)
def test_parameters_that_lose_data_or_tasks_are_refused(given: dict[str, Any], mistakes: list[str]) -> None:
    assert Stack(GIVEN | given).mistakes() == mistakes


@pytest.mark.parametrize("hours", [24, 72, 8760])
def test_a_reader_that_is_behind_by_a_third_of_any_retention_is_an_alarm(hours: int) -> None:
    stack = Stack(GIVEN | {"RetentionHours": hours})
    for share, alarm in ((0.3, False), (0.4, True)):
        age = {"GetRecords.IteratorAgeMilliseconds": share * hours * 3_600_000}
        assert in_alarm(stack, "IteratorAgeAlarm", [], 900.0, age) is alarm


def test_images_with_a_tag_do_not_expire(stack: Stack) -> None:
    policy = json.loads(stack.resource("Repository")["Properties"]["LifecyclePolicy"]["LifecyclePolicyText"])
    assert {each["selection"]["tagStatus"] for each in policy["rules"]} == {"untagged"}


def test_tasks_keep_their_rights_on_a_former_table_which_stays_write_once() -> None:
    stack = Stack(GIVEN | {"TablePrefix": "enriched-2", "OldTablePrefix": "enriched"})
    [rows] = [each for each in statements(stack, "TaskPolicy") if each["Sid"] == "WriteRows"]
    assert {"arn:aws:s3:::Bucket/enriched/*", "arn:aws:s3:::Bucket/enriched-2/*"} <= set(rows["Resource"])
    [once] = [each for each in statements(stack, "BucketPolicy") if each["Sid"] == "TableIsWrittenOnce"]
    assert once["Resource"] == ["Bucket.Arn/enriched-2/*", "Bucket.Arn/enriched/*"]


def test_a_bucket_may_have_a_name_so_that_the_stack_can_be_created_again_over_it(stack: Stack) -> None:
    assert "BucketName" not in stack.resource("Bucket")["Properties"]
    assert Stack(GIVEN | {"BucketName": "rows-1"}).resource("Bucket")["Properties"]["BucketName"] == "rows-1"


def test_the_bucket_takes_only_tls_and_the_table_only_first_writes(stack: Stack) -> None:
    tls, once = stack.resources["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (tls["Effect"], tls["Principal"], tls["Action"]) == ("Deny", "*", "s3:*")
    assert tls["Condition"] == {"Bool": {"aws:SecureTransport": False}}
    assert tls["Resource"] == ["Bucket.Arn", "Bucket.Arn/*"]
    assert (once["Effect"], once["Principal"], once["Action"]) == ("Deny", "*", "s3:PutObject")
    assert once["Resource"] == ["Bucket.Arn/enriched/*"]
    assert once["Condition"] == {
        "Null": {"s3:if-none-match": "true"},
        "Bool": {"s3:ObjectCreationOperation": "true"},
    }


def test_glue_has_our_columns_and_needs_no_command_for_a_new_day(stack: Stack) -> None:
    table = stack.resources["Table"]["Properties"]["TableInput"]
    columns = [(each["Name"], each["Type"]) for each in table["StorageDescriptor"]["Columns"]]
    assert columns == [(field.name, TYPES[str(field.type)]) for field in IDENTITY]
    assert table["Parameters"]["storage.location.template"] == "s3://Bucket/enriched/dt=${dt}"
    assert table["Parameters"]["projection.enabled"] == "true"
    assert re.fullmatch(r"\w+", table["Name"])


# ---------------------------------------------------------------- the task


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


# ---------------------------------------------------------------- the service


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


# ---------------------------------------------------------------- rights


@pytest.mark.parametrize("given", [GIVEN, WITH_DOWNSTREAM, GIVEN | {"CreateLeaseTables": "no"}])
def test_the_role_of_a_task_is_that_of_the_documents(given: dict[str, Any]) -> None:
    names = {
        "REGION": PSEUDO["AWS::Region"], "ACCOUNT": PSEUDO["AWS::AccountId"], "APPLICATION": given["Application"],
        "DOWNSTREAM": given.get("DownstreamName", ""), "STREAM": given["StreamName"], "BUCKET": "Bucket",
        "DEAD_LETTER": "dead-letter", "TABLE": "enriched",
    }  # fmt: skip
    left_out = {"WriteDownstream": not names["DOWNSTREAM"], "MakeTables": given.get("CreateLeaseTables") != "no"}
    documented = iam_policy.named(iam_policy.statements(), names)
    wanted = [each for each in documented if not left_out.get(each["Sid"])]
    assert statements(Stack(given), "TaskPolicy") == wanted


def test_execution_and_task_have_roles_apart(stack: Stack) -> None:
    task = stack.resources["TaskDefinition"]["Properties"]
    assert (task["ExecutionRoleArn"], task["TaskRoleArn"]) == ("ExecutionRole.Arn", "TaskRole.Arn")
    execution = {action for each in statements(stack, "ExecutionPolicy") for action in each["Action"]}
    assert execution == {
        "ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage",
        "ecr:GetDownloadUrlForLayer", "logs:CreateLogStream", "logs:PutLogEvents",
    }  # fmt: skip
    assert not execution & iam_policy.actions()


# ---------------------------------------------------------------- metrics and alarms


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
