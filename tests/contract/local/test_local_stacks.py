"""CloudFormation of the local AWS: stacks make our streams, and what a stack would silently skip is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from consumer.local.process import LocalAWS
from consumer.local.stream_users import SKIPPED_TYPES, USING_TYPES
from tests.support.plain_http import HTTP


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS() as local:
        yield local


TEMPLATE = """
Resources:
  Events: {Type: AWS::Kinesis::Stream, Properties: {ShardCount: %s, RetentionPeriodHours: 48}}
Outputs:
  Arn: {Value: !GetAtt Events.Arn}
"""


def test_a_stack_makes_our_stream_and_a_reset_deletes_everything(aws: LocalAWS) -> None:
    stacks, kinesis, s3 = (aws.client(service) for service in ("cloudformation", "kinesis", "s3"))
    stacks.create_stack(StackName="flow", TemplateBody=TEMPLATE % 2)
    (output,) = stacks.describe_stacks(StackName="flow")["Stacks"][0]["Outputs"]
    arn = output["OutputValue"]
    kinesis.put_record(StreamARN=arn, Data=b"x", PartitionKey="k")
    stacks.update_stack(StackName="flow", TemplateBody=TEMPLATE % 4)
    summary = kinesis.describe_stream_summary(StreamARN=arn)["StreamDescriptionSummary"]
    assert (summary["OpenShardCount"], summary["RetentionPeriodHours"]) == (4, 48)
    with pytest.raises(ClientError, match="cannot scale up"):
        stacks.update_stack(StackName="flow", TemplateBody=TEMPLATE % 400)
    for kind in ("StreamConsumer", "ResourcePolicy"):
        with pytest.raises(ClientError, match=f"does not support AWS::Kinesis::{kind}"):
            stacks.create_stack(StackName=kind, TemplateBody=f"Resources: {{A: {{Type: AWS::Kinesis::{kind}}}}}")
    stacks.delete_stack(StackName="flow")
    assert arn.rpartition("/")[2] not in kinesis.list_streams()["StreamNames"]
    kinesis.create_stream(StreamName="emptied")
    s3.create_bucket(Bucket="emptied")
    assert HTTP.post(f"{aws.endpoint}/moto-api/reset").status_code == 200
    assert kinesis.list_streams()["StreamNames"] == []
    assert s3.list_buckets()["Buckets"] == []


REFUSED_STREAMS = {
    "shards": "{Type: AWS::Kinesis::Stream, Properties: {ShardCount: 0}}",
    "encryption": "{Type: AWS::Kinesis::Stream, Properties: {StreamEncryption: {EncryptionType: KMS, KeyId: k}}}",
    "property": "{Type: AWS::Kinesis::Stream, Properties: {Colour: red}}",
    "tag": "{Type: AWS::Kinesis::Stream, Properties: {Tags: [{Key: 'a;b', Value: ''}]}}",
    "retention": "{Type: AWS::Kinesis::Stream, Properties: {RetentionPeriodHours: 1}}",
    "taken": "{Type: AWS::Kinesis::Stream, Properties: {Name: taken, ShardCount: 1}}",
    "consumer": "{Type: AWS::Kinesis::StreamConsumer}",
}


def test_a_stack_that_is_refused_leaves_nothing_behind(aws: LocalAWS) -> None:
    stacks, kinesis = aws.client("cloudformation"), aws.client("kinesis")
    kinesis.create_stream(StreamName="taken", ShardCount=1)
    first = "Resources:\n  A: {Type: AWS::Kinesis::Stream, Properties: {Name: first, ShardCount: 1}}\n  B: "
    for refused in REFUSED_STREAMS.values():
        with pytest.raises(ClientError, match="AWS::Kinesis"):
            stacks.create_stack(StackName="again", TemplateBody=first + refused)
        changes = {"StackName": "again", "ChangeSetName": "made", "ChangeSetType": "CREATE"}
        change_set = stacks.create_change_set(TemplateBody=first + refused, **changes)["Id"]
        with pytest.raises(ClientError, match="AWS::Kinesis"):
            stacks.execute_change_set(ChangeSetName=change_set)
        assert stacks.describe_stacks()["Stacks"] == []
        assert kinesis.list_streams()["StreamNames"] == ["taken"]
    stacks.create_stack(StackName="again", TemplateBody=first.removesuffix("  B: "))
    kinesis.delete_stream(StreamName="first")
    stacks.delete_stack(StackName="again")
    assert stacks.describe_stacks()["Stacks"] == []
    kinesis.delete_stream(StreamName="taken")


def test_a_stack_that_would_not_use_the_stream_is_refused(aws: LocalAWS) -> None:
    stacks = aws.client("cloudformation")
    properties = {
        "AWS::Events::Rule": {"ScheduleExpression": "rate(5 minutes)", "Targets": [{"Id": "1", "Arn": "GetAtt"}]},
        "AWS::Lambda::EventSourceMapping": {"EventSourceArn": "GetAtt", "FunctionName": "f"},
    }
    stream = {"Type": "AWS::Kinesis::Stream", "Properties": {"ShardCount": 1}}
    for kind in (*SKIPPED_TYPES, *USING_TYPES):
        text = json.dumps({"Type": kind, "Properties": properties.get(kind, {})})
        text = text.replace('"GetAtt"', '{"Fn::GetAtt": ["Events", "Arn"]}')
        template = json.dumps({"Resources": {"Events": stream, "User": json.loads(text)}})
        with pytest.raises(ClientError, match=f"does not support {kind}"):
            stacks.create_stack(StackName="refused", TemplateBody=template)
        assert stacks.describe_stacks()["Stacks"] == []
    assert aws.client("kinesis").list_streams()["StreamNames"] == []
