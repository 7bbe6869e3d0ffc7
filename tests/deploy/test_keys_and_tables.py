"""What the template encrypts with which key, and the tables that it makes for KCL."""

from __future__ import annotations

from typing import Any

from tests.support.cloudformation import Stack

GIVEN = {"Application": "penstock-events", "ImageTag": "model-1", "StreamName": "events"}
KEY = "arn:aws:kms:eu-west-1:123456789012:key/0a1b2c3d"


def keys(stack: Stack) -> dict[str, Any]:
    """What each kind of resource with data is encrypted with."""
    bucket = stack.resource("Bucket")["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]
    answers = stack.resource("WorkGroup")["Properties"]["WorkGroupConfiguration"]["ResultConfiguration"]
    return {
        "streams": {each["StreamEncryption"]["KeyId"] for each in stack.of_type("AWS::Kinesis::Stream").values()},
        "bucket": bucket["ServerSideEncryptionByDefault"],
        "tables": [each.get("SSESpecification") for each in stack.of_type("AWS::DynamoDB::Table").values()],
        "images": stack.resource("Repository")["Properties"]["EncryptionConfiguration"],
        "log": stack.resource("Logs")["Properties"].get("KmsKeyId"),
        "topic": stack.resource("AlarmTopic")["Properties"].get("KmsMasterKeyId"),
        "answers": answers["EncryptionConfiguration"],
    }


def test_one_key_of_your_own_encrypts_all_of_it() -> None:
    assert keys(Stack(GIVEN | {"DownstreamName": "enriched-events"} | {"KmsKeyArn": KEY})) == {
        "streams": {KEY},
        "bucket": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY},
        "tables": [{"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": KEY}] * 3,
        "images": {"EncryptionType": "KMS", "KmsKey": KEY},
        "log": KEY,
        "topic": KEY,
        "answers": {"EncryptionOption": "SSE_KMS", "KmsKey": KEY},
    }
    policy = Stack(GIVEN | {"KmsKeyArn": KEY}).resource("TaskPolicy")["Properties"]["PolicyDocument"]
    permitted = [each for each in policy["Statement"] if KEY in each["Resource"]]
    assert [each["Action"] for each in permitted] == [["kms:Decrypt", "kms:GenerateDataKey"]]


def test_without_a_key_those_of_aws_do() -> None:
    assert keys(Stack(GIVEN)) == {
        "streams": {"alias/aws/kinesis"},
        "bucket": {"SSEAlgorithm": "AES256"},
        "tables": [None] * 3,
        "images": {"EncryptionType": "AES256"},
        "log": None,
        "topic": None,
        "answers": {"EncryptionOption": "SSE_S3"},
    }


def test_kcls_tables_can_be_restored_and_are_not_deleted() -> None:
    tables = {name: each for name, each in Stack(GIVEN).resources.items() if each["Type"] == "AWS::DynamoDB::Table"}
    assert [each["Properties"]["TableName"] for each in tables.values()] == [
        "penstock-events", "penstock-events-CoordinatorState", "penstock-events-WorkerMetricStats",
    ]  # fmt: skip
    for each in tables.values():
        assert each["Properties"]["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert each["Properties"]["DeletionProtectionEnabled"] is True
        assert (each["DeletionPolicy"], each["UpdateReplacePolicy"]) == ("Retain", "Retain")


def test_tables_and_a_workgroup_that_exist_are_left_alone() -> None:
    stack = Stack(GIVEN | {"CreateLeaseTables": "no", "AthenaWorkGroup": "no"})
    assert not stack.of_type("AWS::DynamoDB::Table") and not stack.of_type("AWS::Athena::WorkGroup")
