"""What `penstock doctor` examines, made up, and the level of its findings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError

from consumer.admin.check_model import Loaded
from consumer.admin.doctor.checks import CHECKS
from consumer.admin.doctor.findings import Finding, Level, examine
from consumer.admin.doctor.subject import Machine, Subject
from consumer.aws.shards import KnownShard
from consumer.config.load import parse
from consumer.leases.leases import Lease
from consumer.leases.state import NO_TABLES, ApplicationState
from pipeline.stores.memory import MemoryStore

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
NOW_S = 1_800_000_000.0
MIB = 1024 * 1024
RED, YELLOW, GREEN = Level.RED, Level.YELLOW, Level.GREEN


class Client(SimpleNamespace):
    """A service whose operations are functions of the test."""

    meta = SimpleNamespace(region_name="eu-west-1")
    exceptions = SimpleNamespace(ClientError=ClientError, ResourceNotFoundException=ClientError)


def refused(code: str, operation: str = "GetRecords") -> Any:
    def call(**request: Any) -> Any:
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, operation)

    return call


def subject(*, settings: dict[str, Any] | None = None, clients: dict[str, Any] | None = None, **known: Any) -> Subject:
    """Everything is healthy, unless the test says otherwise. ``known``: attributes that would be read from AWS or the
    machine."""
    raw: dict[str, Any] = {
        "stream": {"name": "events", "application": "app"},
        "model": {"factory": "examples.hello:Sentiment", "version": "1", "replicas": 1, "threads": 2},
        "sink": [{"type": "parquet", "url": "s3://bucket/table"}],
        "dead_letter": {"url": "s3://bucket/dead"},
    }
    for section, values in (settings or {}).items():
        raw[section] = values if isinstance(values, list) else {**raw.get(section, {}), **values}
    made = Subject(
        parse(raw),
        lambda service: (clients or {})[service],
        known.pop("store", lambda url: MemoryStore()),
        machine=Machine(cores=2, memory_mib=8192, free_bytes=lambda folder: 10_000 * MIB, now=lambda: NOW_S),
        tasks=known.pop("tasks", None),
        role=known.pop("role", None),
        loads_model=known.pop("loads_model", True),
    )
    facts = {
        "summary": summary(),
        "shards": {f"s{number}": KnownShard(f"s{number}") for number in range(4)},
        "state": ApplicationState("app", NO_TABLES),
        "_loaded": Loaded(1.5, 0.1, ()),
    }
    made.__dict__.update(facts | known)
    return made


def summary(**changes: Any) -> dict[str, Any]:
    date = format_datetime(datetime.fromtimestamp(NOW_S, UTC), usegmt=True)
    return {
        "StreamARN": "arn:aws:kinesis:eu-west-1:123456789012:stream/events",
        "StreamStatus": "ACTIVE",
        "OpenShardCount": 4,
        "StreamCreationTimestamp": CREATED,
        "EncryptionType": "KMS",
        "MaxRecordSizeInKiB": 1024,
        "asked_of": {"HTTPHeaders": {"date": date}},
        **changes,
    }


def lease(shard_id: str, **changes: Any) -> Lease:
    return dataclasses.replace(Lease(shard_id, "w", 1, None, "TRIM_HORIZON", (), (), ""), **changes)


def worst(found: Iterator[Finding]) -> Level:
    levels = [finding.level for finding in found]
    return max(levels, key=list(Level).index)


def level_of(name: str, examined: Subject) -> Level:
    return worst(finding for _, finding in examine({name: CHECKS[name]}, examined))


def dynamodb(index: str | None = "ACTIVE", status: str = "ACTIVE", key: str = "leaseKey") -> Client:
    table = {
        "TableName": "app",
        "TableStatus": status,
        "CreationDateTime": CREATED,
        "KeySchema": [{"AttributeName": key, "KeyType": "HASH"}],
        "GlobalSecondaryIndexes": [{"IndexName": "LeaseOwnerToLeaseKeyIndex", "IndexStatus": index}] if index else [],
    }
    return Client(describe_table=lambda **request: {"Table": table})
