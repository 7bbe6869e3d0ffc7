"""The templates on moto, as far as moto goes: each resource is asked for by its own service.

moto says CREATE_COMPLETE of types that it does not know. Those are listed in ``tests.support.moto_stack``, and given
to their services directly, which check names and types of properties. It is not AWS: policies are not enforced, streams
are not encrypted, properties that moto ignores are not noticed, and no task runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from consumer.cli import main
from consumer.local.process import LocalAWS
from tests.support.cloudformation import PSEUDO, TEMPLATE, Stack, read
from tests.support.moto_stack import LEFT_OUT, create

NAME = "penstock-events"
GIVEN = {
    "Application": NAME,
    "ImageTag": "model-1",
    "StreamName": "events",
    "DownstreamName": "more",
    "AlarmEmail": "a@b.c",
}
OTHERS = {"canary": {}, "gpu": {}, "operators": {"Stack": NAME}}

Check = Callable[[Any, str], Any]
To = Callable[[str], Any]
"""Makes a client of a service, each once."""

CHECKS: dict[str, Check] = {
    "AWS::DynamoDB::Table": lambda to, name: to("dynamodb").describe_table(TableName=name)["Table"],
    "AWS::EC2::EIP": lambda to, name: to("ec2").describe_addresses(PublicIps=[name])["Addresses"][0],
    "AWS::EC2::InternetGateway": lambda to, name: to("ec2").describe_internet_gateways(InternetGatewayIds=[name])[
        "InternetGateways"
    ][0],
    "AWS::EC2::NatGateway": lambda to, name: to("ec2").describe_nat_gateways(NatGatewayIds=[name])["NatGateways"][0],
    "AWS::EC2::Route": lambda to, name: routes(to, name.partition("~")[0])[name.partition("~")[2]],
    "AWS::EC2::RouteTable": lambda to, name: route_table(to, name)["Routes"],
    "AWS::EC2::SecurityGroup": lambda to, name: to("ec2").describe_security_groups(GroupIds=[name])["SecurityGroups"][
        0
    ],
    "AWS::EC2::Subnet": lambda to, name: to("ec2").describe_subnets(SubnetIds=[name])["Subnets"][0],
    "AWS::EC2::VPC": lambda to, name: to("ec2").describe_vpcs(VpcIds=[name])["Vpcs"][0],
    "AWS::EC2::VPCEndpoint": lambda to, name: to("ec2").describe_vpc_endpoints(VpcEndpointIds=[name])["VpcEndpoints"][
        0
    ],
    "AWS::EC2::VPCGatewayAttachment": lambda to, name: to("ec2").describe_internet_gateways(
        Filters=[{"Name": "attachment.vpc-id", "Values": [name]}]
    )["InternetGateways"][0],
    "AWS::ECR::Repository": lambda to, name: to("ecr").describe_repositories(repositoryNames=[name])["repositories"][0],
    "AWS::ECS::Cluster": lambda to, name: to("ecs").describe_clusters(clusters=[name])["clusters"][0],
    "AWS::ECS::Service": lambda to, name: to("ecs").describe_services(cluster=NAME, services=[name])["services"][0],
    "AWS::ECS::TaskDefinition": lambda to, name: to("ecs").describe_task_definition(taskDefinition=name)[
        "taskDefinition"
    ],
    "AWS::IAM::InstanceProfile": lambda to, name: to("iam").get_instance_profile(InstanceProfileName=name),
    "AWS::IAM::ManagedPolicy": lambda to, name: to("iam").get_policy(PolicyArn=name)["Policy"],
    "AWS::IAM::Role": lambda to, name: to("iam").get_role(RoleName=name)["Role"],
    "AWS::Kinesis::Stream": lambda to, name: to("kinesis").describe_stream_summary(StreamName=name)[
        "StreamDescriptionSummary"
    ],
    "AWS::Logs::LogGroup": lambda to, name: to("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"][0],
    "AWS::S3::Bucket": lambda to, name: to("s3").head_bucket(Bucket=name)["ResponseMetadata"],
    "AWS::SNS::Topic": lambda to, name: to("sns").get_topic_attributes(TopicArn=name)["Attributes"],
}
"""How a service is asked for a resource of a type; it raises, or answers with nothing, if there is none."""


SAID_ONLY = {"AWS::EC2::SubnetRouteTableAssociation"}
"""Types that moto lists with an id, and that its own service does not know of."""


def route_table(to: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = to("ec2").describe_route_tables(RouteTableIds=[name])["RouteTables"][0]
    return found


def routes(to: Any, name: str) -> dict[str, Any]:
    """By destination."""
    return {each.get("DestinationCidrBlock", ""): each for each in route_table(to, name)["Routes"]}


Made = dict[str, dict[str, tuple[str, str]]]


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS() as local:
        yield local


@pytest.fixture(scope="module")
def made(aws: LocalAWS) -> Made:
    """Every template as a stack."""
    found = {NAME: create(aws, NAME, TEMPLATE, GIVEN)}
    for name, more in OTHERS.items():
        path = TEMPLATE.with_name(f"{name}.yaml")
        known = read(path)["Parameters"]
        given = {key: value for key, value in (GIVEN | more).items() if key in known}
        found[name] = create(aws, f"{NAME}-{name}", path, given)
    return found


def test_every_type_is_asked_for_or_listed() -> None:
    kinds = {each["Type"] for path in TEMPLATE.parent.glob("*.yaml") for each in read(path)["Resources"].values()}
    assert kinds == CHECKS.keys() | LEFT_OUT | SAID_ONLY


@pytest.fixture(scope="module")
def to(aws: LocalAWS) -> To:
    return cache(aws.client)


def test_each_resource_is_there_by_the_word_of_its_own_service(to: To, made: Made) -> None:
    for stack, resources in made.items():
        for logical, (kind, name) in resources.items():
            if kind in SAID_ONLY:
                assert route_table(to, name)["Associations"] == []
            else:
                assert CHECKS[kind](to, name), f"{stack} {logical}"


def test_no_resource_but_those_that_moto_does_not_make_is_missing(made: Made) -> None:
    stack = Stack(GIVEN)
    assert made[NAME].keys() == {name for name, each in stack.resources.items() if each["Type"] not in LEFT_OUT}


def test_the_tables_are_what_kcl_and_we_expect(aws: LocalAWS, made: Made) -> None:
    from consumer.leases.tables import has_index, made_at, make_tables

    dynamodb = aws.client("dynamodb")
    before = made_at(dynamodb, NAME)
    aws.calls(forget=True)
    make_tables(dynamodb, NAME)
    assert "CreateTable" not in aws.calls()["dynamodb"]
    assert made_at(dynamodb, NAME) == before and has_index(dynamodb, NAME)
    for name in (NAME, f"{NAME}-CoordinatorState", f"{NAME}-WorkerMetricStats"):
        assert dynamodb.describe_table(TableName=name)["Table"]["DeletionProtectionEnabled"] is True


def test_the_task_is_of_the_image_in_the_stacks_own_repository(to: To, made: Made) -> None:
    task = CHECKS["AWS::ECS::TaskDefinition"](to, made[NAME]["TaskDefinition"][1])
    (container,) = task["containerDefinitions"]
    uri = to("ecr").describe_repositories(repositoryNames=[NAME])["repositories"][0]["repositoryUri"]
    assert container["image"] == f"{uri}:model-1"
    assert (container["stopTimeout"], container["readonlyRootFilesystem"]) == (120, True)


# ---------------------------------------------------------------- what moto's CloudFormation does not make


def lower(value: Any) -> Any:
    """With names as the older APIs write them: ``metricName``."""
    if isinstance(value, list):
        return [lower(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {key[0].lower() + key[1:]: lower(each) for key, each in value.items()}


def put(to: Any, kind: str, given: dict[str, Any], bucket: str, topic: str) -> Any:
    """Give a resource's properties to its service."""
    if kind == "AWS::CloudWatch::Alarm":
        to("cloudwatch").put_metric_alarm(**given)
        return to("cloudwatch").describe_alarms(AlarmNames=[given["AlarmName"]])["MetricAlarms"]
    if kind == "AWS::CloudWatch::Dashboard":
        to("cloudwatch").put_dashboard(**given)
        return json.loads(to("cloudwatch").get_dashboard(DashboardName=given["DashboardName"])["DashboardBody"])
    if kind == "AWS::Glue::Database":
        to("glue").create_database(**given)
        return to("glue").get_database(Name=given["DatabaseInput"]["Name"])
    if kind == "AWS::Glue::Table":
        database = GIVEN["Application"].replace("-", "_")
        to("glue").create_table(**given | {"DatabaseName": database})
        return to("glue").get_table(DatabaseName=database, Name=given["TableInput"]["Name"])
    if kind == "AWS::Logs::MetricFilter":
        name, group = given["MetricTransformations"][0]["MetricName"], made_log(to)
        to("logs").put_metric_filter(**lower(given) | {"filterName": name, "logGroupName": group})
        return to("logs").describe_metric_filters(logGroupName=group, filterNamePrefix=name)["metricFilters"]
    if kind == "AWS::S3::BucketPolicy":
        text = json.dumps(given["PolicyDocument"]).replace("Bucket.Arn", f"arn:aws:s3:::{bucket}")
        to("s3").put_bucket_policy(Bucket=bucket, Policy=text)
        return to("s3").get_bucket_policy(Bucket=bucket)["Policy"]
    if kind == "AWS::Athena::WorkGroup":
        to("athena").create_work_group(Name=given["Name"], Configuration=given["WorkGroupConfiguration"])
        return to("athena").get_work_group(WorkGroup=given["Name"])["WorkGroup"]
    if kind == "AWS::SNS::Subscription":
        to("sns").subscribe(**given | {"TopicArn": topic})
        return to("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert kind == "AWS::SNS::TopicPolicy"
    text = json.dumps(given["PolicyDocument"]).replace('"AlarmTopic"', f'"{topic}"')
    to("sns").set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=text)
    return to("sns").get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"]


def made_log(to: Any) -> str:
    (group,) = to("logs").describe_log_groups(logGroupNamePrefix=f"/penstock/{NAME}", limit=1)["logGroups"]
    return str(group["logGroupName"])


def test_the_services_take_what_moto_does_not_make(to: To, made: Made) -> None:
    bucket, topic = made[NAME]["Bucket"][1], made[NAME]["AlarmTopic"][1]
    left = {name: each for name, each in Stack(GIVEN).resources.items() if each["Type"] in LEFT_OUT}
    assert {each["Type"] for each in left.values()} == LEFT_OUT - {"AWS::ECS::CapacityProvider"}
    for name, each in left.items():
        text = json.dumps(each["Properties"]).replace(PSEUDO["AWS::Region"], "us-east-1")
        assert put(to, each["Type"], json.loads(text), bucket, topic), name


# ---------------------------------------------------------------- penstock deploy diff


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
[[sink]]
type = "kinesis"
stream = "more"
[dead_letter]
url = "s3://bucket/dead-letter"
"""


def run(aws: LocalAWS, folder: Path, *words: str) -> Any:
    (path := folder / "penstock.toml").write_text(CONFIG)
    return CliRunner().invoke(main, ["deploy", "diff", "--config", str(path), *words], env=aws.env)


def test_a_stack_is_compared_with_a_configuration(aws: LocalAWS, made: Made, tmp_path: Path) -> None:
    result = run(aws, tmp_path, "--tasks", "2", "--set", "ImageTag=model-2")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == ["parameter\tnow\tthen", "DesiredCount\t0\t2", "ImageTag\tmodel-1\tmodel-2"]
    shown = json.loads(run(aws, tmp_path, "--tasks", "2", "--json").stdout)
    assert shown == {
        "schema": "penstock.deploy.diff/1",
        "stack": NAME,
        "exists": True,
        "changes": [{"parameter": "DesiredCount", "now": "0", "then": "2"}],
    }


def test_nothing_to_change_is_exit_code_4(aws: LocalAWS, made: Made, tmp_path: Path) -> None:
    result = run(aws, tmp_path, "--tasks", "0")
    assert result.exit_code == 4
    assert "has these parameters already" in result.output
    assert json.loads(run(aws, tmp_path, "--tasks", "0", "--json").stdout)["changes"] == []


def test_a_stack_that_is_not_there_is_all_new(aws: LocalAWS, made: Made, tmp_path: Path) -> None:
    result = run(aws, tmp_path, "--stack", "another", "--set", "ImageTag=model-1")
    assert result.exit_code == 0
    assert "There is no stack another" in result.stderr
    gpus = run(aws, tmp_path, "--gpus", "1", "--cpu", "3072", "--memory", "12288", "--json")
    assert json.loads(gpus.stdout)["stack"] == f"{NAME}-gpu"
    assert "Application\t-\tpenstock-events" in result.stdout.splitlines()
