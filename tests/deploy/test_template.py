"""The CloudFormation template as stacks with several sets of parameters: data and rights. Does not call AWS."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from deploy.templates import LARGEST_BYTES
from pipeline.table.schema import IDENTITY
from tests.support import iam_policy
from tests.support.alarms import in_alarm
from tests.support.cloudformation import PSEUDO, TEMPLATE, Stack
from tests.support.template_stack import GIVEN, WITH_DOWNSTREAM, statements

KEPT = {"AWS::Kinesis::Stream", "AWS::S3::Bucket", "AWS::S3::BucketPolicy", "AWS::ECR::Repository"}
"""What outlives the stack, but does not stand in the way after a creation that failed."""

TYPES = {"string": "string", "int64": "bigint", "timestamp[ms, tz=UTC]": "timestamp"}
"""Types of Arrow and of Athena."""


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
