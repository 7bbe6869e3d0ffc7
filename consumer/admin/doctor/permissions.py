"""Checks with IAM, without making the calls, that the tasks' role allows what a task calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from consumer.admin.doctor.findings import Finding, green, red, yellow
from consumer.admin.doctor.subject import Subject
from consumer.config.sink_settings import KinesisSinkSettings, ParquetSettings
from consumer.leases.tables import has_index
from pipeline.errors import counted
from pipeline.table.names import STAGED, SUSPECTS

READ = ("kinesis:DescribeStreamSummary", "kinesis:ListShards", "kinesis:GetShardIterator", "kinesis:GetRecords")
PUT = ("kinesis:DescribeStreamSummary", "kinesis:PutRecords")
LEASES = (
    "dynamodb:DescribeTable",
    "dynamodb:Scan",
    "dynamodb:GetItem",
    "dynamodb:PutItem",
    "dynamodb:UpdateItem",
    "dynamodb:DeleteItem",
)
MAKE_TABLES = ("dynamodb:CreateTable", "dynamodb:UpdateTable")
INDEX = ("dynamodb:Query",)
OBJECTS = ("s3:PutObject", "s3:GetObject")
LIST = ("s3:ListBucket",)
METRICS = ("cloudwatch:PutMetricData",)


@dataclass(frozen=True, slots=True)
class Need:
    """Actions that a task calls on some resources (ARNs). The same as the policy in docs/security.md."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]


def needs(subject: Subject, account: str, region: str, *, makes_tables: bool) -> Iterator[Need]:
    """Every action that a task of this configuration calls. ``makes_tables``: KCL's tables are not there yet."""
    settings = subject.settings
    kinesis, dynamodb = f"arn:aws:kinesis:{region}:{account}:stream", f"arn:aws:dynamodb:{region}:{account}:table"
    application = settings.stream.application
    yield Need(READ, (f"{kinesis}/{settings.stream.name}",))
    streams = tuple(f"{kinesis}/{entry.stream}" for entry in settings.sink if isinstance(entry, KinesisSinkSettings))
    if streams:
        yield Need(PUT, streams)
    tables = (application, f"{application}-CoordinatorState", f"{application}-WorkerMetricStats")
    yield Need((*LEASES, *MAKE_TABLES) if makes_tables else LEASES, tuple(f"{dynamodb}/{name}" for name in tables))
    yield Need(INDEX, (f"{dynamodb}/{application}/index/LeaseOwnerToLeaseKeyIndex",))
    letters = settings.dead_letter.url.rstrip("/")
    urls = [entry.url.rstrip("/") for entry in settings.sink if isinstance(entry, ParquetSettings)]
    paths = [url.removeprefix("s3://") for url in (*urls, letters, letters + STAGED, letters + SUSPECTS)]
    if letters.startswith("s3://") or any(url.startswith("s3://") for url in urls):
        yield Need(OBJECTS, tuple(f"arn:aws:s3:::{path}/*" for path in paths))
        yield Need(LIST, tuple(sorted({f"arn:aws:s3:::{path.partition('/')[0]}" for path in paths})))
    yield Need(METRICS, ("*",))


def permissions(subject: Subject) -> Iterator[Finding]:
    """Ask IAM to simulate each need for the role. The result is unknown if IAM cannot simulate it."""
    from botocore.exceptions import ClientError
    from botocore.parsers import ResponseParserError

    identity = subject.client("sts").get_caller_identity()
    principal = subject.role or role_of(identity["Arn"])
    iam, region = subject.client("iam"), subject.client("kinesis").meta.region_name
    denied: list[str] = []
    count = 0
    makes_tables = not has_index(subject.client("dynamodb"), subject.settings.stream.application)
    for need in needs(subject, identity["Account"], region, makes_tables=makes_tables):
        try:
            denied += _denied(iam, principal, need, subject.settings.stream.application)
        except (ClientError, ResponseParserError) as error:
            code = error.response["Error"].get("Code") if isinstance(error, ClientError) else "no answer from IAM"
            said = f"IAM does not simulate for {principal}: {code}"
            yield yellow(said, "Allow iam:SimulatePrincipalPolicy to the caller, or give the tasks' role with --role")
            return
        count += len(need.actions)
    if denied:
        yield red(f"{principal} may not {', '.join(denied)}", "Add it to the role's policy: docs/security.md has it")
    else:
        yield green(f"{principal} may call all {counted(count, 'action')}")


def _denied(iam: Any, principal: str, need: Need, application: str) -> list[str]:
    key, kind = "cloudwatch:namespace", "string"
    context = [{"ContextKeyName": key, "ContextKeyValues": [application], "ContextKeyType": kind}]
    denied = []
    pages = iam.get_paginator("simulate_principal_policy").paginate(
        PolicySourceArn=principal,
        ActionNames=list(need.actions),
        ResourceArns=list(need.resources),
        ContextEntries=context,
    )
    for page in pages:
        for result in page["EvaluationResults"]:
            specific = result.get("ResourceSpecificResults") or [
                {"EvalResourceName": "*", "EvalResourceDecision": result["EvalDecision"]}
            ]
            denied += [
                f"{result['EvalActionName']} on {each['EvalResourceName']}"
                for each in specific
                if each["EvalResourceDecision"] != "allowed"
            ]
    return denied


def role_of(arn: str) -> str:
    """The ARN of the role from which a session was assumed; other callers unchanged."""
    if ":assumed-role/" not in arn:
        return arn
    account, name = arn.split(":")[4], arn.split("/")[1]
    return f"arn:aws:iam::{account}:role/{name}"
