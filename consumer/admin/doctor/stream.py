"""Checks of AWS and of the source stream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from consumer.admin.doctor.findings import Finding, green, red, yellow
from consumer.admin.doctor.subject import Subject
from consumer.aws.cli_commands import aws_command
from consumer.aws.stream_reader import patiently
from pipeline.errors import counted

SKEWED_S, WRONG_S = 5.0, 30.0
"""From these differences on a clock is off, or wrong: KCL considers a worker dead if its report is a minute old."""

KMS = "KMS"


def credentials(subject: Subject) -> Iterator[Finding]:
    """The caller's identity in AWS."""
    yield green(f"{subject.client('sts').get_caller_identity()['Arn']}")


def stream(subject: Subject) -> Iterator[Finding]:
    """Check that the stream exists and is ready, and report its mode."""
    summary = subject.summary
    name, status = subject.settings.stream.name, summary["StreamStatus"]
    mode = summary.get("StreamModeDetails", {}).get("StreamMode", "PROVISIONED")
    said = f"{name} is {status}, {mode}, {counted(summary['OpenShardCount'], 'open shard')}"
    if status not in {"ACTIVE", "UPDATING"}:
        yield red(said, "Wait until it is ACTIVE, or correct [stream] name")
    else:
        yield green(said)
    if summary.get("RecordDistributionStrategy") == "AUTO":
        yield yellow("the stream distributes records by itself: keys keep no order", "Ignore it if order is not needed")
    tasks = subject.running
    if tasks is not None and tasks > summary["OpenShardCount"]:
        there = counted(summary["OpenShardCount"], "open shard")
        said = f"{counted(tasks, 'task')} and {there}: a shard is read by one task, so tasks wait"
        yield yellow(said, "Raise the number of shards: penstock shards scale")


def encryption(subject: Subject) -> Iterator[Finding]:
    """Check that the stream is encrypted and can be read."""
    kinesis, name = subject.client("kinesis"), subject.settings.stream.name
    kind = subject.summary.get("EncryptionType", "NONE")
    shard_id = next((shard.shard_id for shard in subject.shards.values() if shard.open), None)
    if shard_id is not None:
        try:
            first = {"ShardIteratorType": "TRIM_HORIZON"}
            at = patiently(time.sleep, kinesis.get_shard_iterator, StreamName=name, ShardId=shard_id, **first)
            patiently(time.sleep, kinesis.get_records, ShardIterator=at["ShardIterator"], Limit=1)
        except kinesis.exceptions.ClientError as error:
            if not error.response["Error"]["Code"].startswith(KMS):
                raise
            said = f"records cannot be decrypted: {error.response['Error']['Code']}"
            yield red(said, f"Enable the key, and allow kms:Decrypt on {subject.summary.get('KeyId', 'it')}")
            return
    if kind == "NONE":
        key = {"EncryptionType": "KMS", "KeyId": "alias/aws/kinesis"}
        encrypt = aws_command("kinesis", "StartStreamEncryption", StreamName=name, **key)
        yield yellow("the stream is not encrypted", f"Encrypt it {encrypt}")
    else:
        yield green(f"encrypted with {kind}")


def clock(subject: Subject) -> Iterator[Finding]:
    """Compare this machine's clock with that of AWS."""
    told = subject.summary["asked_of"].get("HTTPHeaders", {}).get("date")
    if told is None:
        yield yellow("AWS did not return its time", "Check the clock by hand")
        return
    skew_s = subject.machine.now() - parsedate_to_datetime(told).timestamp()
    said, fix = f"{abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} AWS", "Synchronize the clock (NTP)"
    if abs(skew_s) > WRONG_S:
        yield red(said, fix)
    else:
        yield yellow(said, fix) if abs(skew_s) > SKEWED_S else green("within 5 s of AWS")
