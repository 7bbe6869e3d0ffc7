"""``penstock doctor``: what makes each check red, and what does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from consumer.admin.check_model import Loaded
from consumer.admin.doctor import machine, permissions
from consumer.admin.doctor.checks import CHECKS
from consumer.admin.doctor.findings import Finding, Level, examine, green
from consumer.admin.doctor.subject import Machine, Subject
from consumer.aws.shards import KnownShard
from consumer.config.load import parse
from consumer.leases.binding import Binding
from consumer.leases.leases import Lease
from consumer.leases.state import NO_TABLES, ONE_TABLE, THREE_TABLES, ApplicationState, WorkerMetrics
from pipeline.errors import Fatal, UserError
from pipeline.stores.base import Denied
from pipeline.stores.memory import MemoryStore
from pipeline.stores.s3 import PROBE
from tests.support import iam_policy

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


# -- this machine


def test_java_is_found_and_started() -> None:
    assert level_of("java", subject()) is GREEN


@pytest.mark.parametrize(
    ("version", "level"), [("1.7.0_80", RED), ("1.8.0_392", GREEN), ("17.0.9", GREEN), ("25", GREEN)]
)
def test_java_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, level: Level) -> None:
    java = tmp_path / "java"
    java.write_text(
        f"#!/bin/sh\necho 'Picked up JAVA_TOOL_OPTIONS: -Xx' >&2\necho 'openjdk version \"{version}\" 2020' >&2\n"
    )
    java.chmod(0o755)
    monkeypatch.setattr(machine, "find_java", lambda: java)
    assert level_of("java", subject()) is level


def test_java_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "find_java", lambda: tmp_path / "none")
    assert level_of("java", subject()) is RED


def test_java_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise UserError("No Java found. Run: pip install")

    monkeypatch.setattr(machine, "find_java", none)
    monkeypatch.setattr(machine, "find_jars", none)
    assert level_of("java", subject()) is RED
    assert level_of("kcl", subject()) is RED


@pytest.mark.parametrize(("version", "level"), [("3.1.3", GREEN), ("3.9.0", YELLOW)])
def test_the_version_of_kcl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, level: Level) -> None:
    (tmp_path / f"amazon-kinesis-client-multilang-{version}.jar").touch()
    monkeypatch.setattr(machine, "find_jars", lambda: tmp_path)
    assert level_of("kcl", subject()) is level


@pytest.mark.parametrize(("threads", "level"), [(2, GREEN), (3, YELLOW), (5, RED)])
def test_threads_against_cores(threads: int, level: Level) -> None:
    assert level_of("cores", subject(settings={"model": {"threads": threads}})) is level


@pytest.mark.parametrize(
    ("task_mib", "model_mib", "level"),
    [(8192, "auto", GREEN), (1024, "auto", RED), (8192, 7000, RED), (8192, 4000, GREEN), (None, "auto", YELLOW)],
)
def test_memory(task_mib: int | None, model_mib: Any, level: Level) -> None:
    examined = subject(settings={"model": {"memory_mib": model_mib}})
    examined.machine = dataclasses.replace(examined.machine, memory_mib=task_mib)
    assert level_of("memory", examined) is level


@pytest.mark.parametrize(
    ("heap_mib", "tasks", "most", "level"),
    [(512, 1, 0, GREEN), (256, 1, 0, YELLOW), (128, 1, 0, RED), (128, 4, 0, YELLOW), (160, 1, 1, GREEN)],
)
def test_heap_against_shards(heap_mib: int, tasks: int, most: int, level: Level) -> None:
    kcl = {"java_heap_mib": heap_mib, "max_leases": most}
    assert level_of("heap", subject(settings={"kcl": kcl}, tasks=tasks)) is level


@pytest.mark.parametrize(("free_mib", "level"), [(5000, GREEN), (500, YELLOW), (50, RED)])
def test_disk(tmp_path: Path, free_mib: int, level: Level) -> None:
    looked: list[Path] = []

    def free_bytes(folder: Path) -> int:
        looked.append(folder)
        return free_mib * MIB

    url = str(tmp_path / "table" / "deep")
    examined = subject(settings={"sink": [{"type": "parquet", "url": url}]})
    examined.machine = dataclasses.replace(examined.machine, free_bytes=free_bytes)
    assert level_of("disk", examined) is level
    assert tmp_path in looked


def test_the_model() -> None:
    assert level_of("model", subject()) is GREEN
    assert level_of("model", subject(loads_model=False)) is YELLOW
    assert level_of("model", subject(_loaded=Loaded(1, None, ("two columns differ in case",)))) is YELLOW


def test_a_model_that_is_not_there_or_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    examined = subject(settings={"model": {"factory": "no_such_module:Model"}})
    del examined.__dict__["_loaded"]
    assert level_of("model", examined) is RED

    attempts = []

    def load(settings: Any) -> Loaded:
        attempts.append(settings)
        raise Fatal("weights.bin has another hash than it should")

    monkeypatch.setattr("consumer.admin.check_model.load", load)
    examined = subject()
    del examined.__dict__["_loaded"]
    assert level_of("model", examined) is RED
    assert (level_of("drain", examined), level_of("columns", examined)) == (YELLOW, YELLOW)
    assert len(attempts) == 1, "a model that fails may take minutes to do so"


@pytest.mark.parametrize(
    ("example_s", "level"), [(0.1, GREEN), (None, YELLOW), (60, RED)], ids=["fits", "unknown", "too long"]
)
def test_the_drain(example_s: float | None, level: Level) -> None:
    assert level_of("drain", subject(_loaded=Loaded(1, example_s, ()))) is level


# -- AWS and the stream


def test_credentials() -> None:
    sts = Client(get_caller_identity=lambda: {"Arn": "arn:aws:iam::1:user/u", "Account": "1"})
    assert level_of("credentials", subject(clients={"sts": sts})) is GREEN
    sts = Client(get_caller_identity=refused("ExpiredToken"))
    assert level_of("credentials", subject(clients={"sts": sts})) is RED


@pytest.mark.parametrize(
    ("changes", "tasks", "level"),
    [
        ({}, None, GREEN),
        ({}, 4, GREEN),
        ({}, 5, YELLOW),
        ({"StreamStatus": "UPDATING"}, None, GREEN),
        ({"StreamStatus": "DELETING"}, None, RED),
        ({"RecordDistributionStrategy": "AUTO"}, None, YELLOW),
    ],
)
def test_the_stream(changes: dict[str, Any], tasks: int | None, level: Level) -> None:
    assert level_of("stream", subject(summary=summary(**changes), tasks=tasks)) is level


def test_a_stream_that_is_not_there() -> None:
    examined = subject(clients={"kinesis": Client(describe_stream_summary=refused("ResourceNotFoundException"))})
    del examined.__dict__["summary"]
    assert level_of("stream", examined) is RED


@pytest.mark.parametrize(
    ("kind", "code", "level"),
    [("KMS", "", GREEN), ("NONE", "", YELLOW), ("KMS", "KMSDisabledException", RED), ("KMS", "AccessDenied", RED)],
)
def test_encryption(kind: str, code: str, level: Level) -> None:
    kinesis = Client(
        get_shard_iterator=lambda **request: {"ShardIterator": "i"},
        get_records=refused(code) if code else lambda **request: {"Records": []},
    )
    assert level_of("encryption", subject(clients={"kinesis": kinesis}, summary=summary(EncryptionType=kind))) is level


@pytest.mark.parametrize(("skew_s", "level"), [(0, GREEN), (-4, GREEN), (12, YELLOW), (-12, YELLOW), (90, RED)])
def test_the_clock(skew_s: float, level: Level) -> None:
    examined = subject()
    examined.machine = dataclasses.replace(examined.machine, now=lambda: NOW_S + skew_s)
    assert level_of("clock", examined) is level


# -- permissions


def simulation(denied: str = "") -> Client:
    def paginate(**request: Any) -> Any:
        for action in request["ActionNames"]:
            decisions = [
                {"EvalResourceName": arn, "EvalResourceDecision": "implicitDeny" if action == denied else "allowed"}
                for arn in request["ResourceArns"]
            ]
            yield {"EvaluationResults": [{"EvalActionName": action, "ResourceSpecificResults": decisions}]}

    return Client(get_paginator=lambda name: SimpleNamespace(paginate=paginate))


ROLE = "arn:aws:sts::123456789012:assumed-role/task/session"
STS = Client(get_caller_identity=lambda: {"Arn": ROLE, "Account": "123456789012"})


@pytest.mark.parametrize("action", sorted(iam_policy.actions()))
def test_an_action_that_the_role_may_not_call_is_named(action: str) -> None:
    downstream = [{"type": "parquet", "url": "s3://bucket/table"}, {"type": "kinesis", "stream": "enriched"}]
    clients = {"sts": STS, "iam": simulation(action), "kinesis": Client(), "dynamodb": dynamodb(index=None)}
    [finding] = permissions.permissions(subject(settings={"sink": downstream}, clients=clients))
    assert finding.level is RED
    assert action in finding.says
    assert "arn:aws:iam::123456789012:role/task" in finding.says


def test_a_role_that_may_do_all() -> None:
    clients = {"sts": STS, "iam": simulation(), "kinesis": Client(), "dynamodb": dynamodb()}
    assert level_of("permissions", subject(clients=clients)) is GREEN


@pytest.mark.parametrize(("index", "level"), [("ACTIVE", GREEN), (None, RED)])
def test_a_role_that_may_not_make_tables_is_right_where_they_are_there(index: str | None, level: Level) -> None:
    clients = {"sts": STS, "iam": simulation("dynamodb:CreateTable"), "kinesis": Client(), "dynamodb": dynamodb(index)}
    assert level_of("permissions", subject(clients=clients)) is level


def test_an_iam_that_the_caller_may_not_use_is_unknown() -> None:
    iam = Client(get_paginator=lambda name: SimpleNamespace(paginate=refused("AccessDenied")))
    clients = {"sts": STS, "iam": iam, "kinesis": Client(), "dynamodb": dynamodb()}
    assert level_of("permissions", subject(clients=clients)) is YELLOW


def test_the_simulated_actions_equal_the_documented_policy() -> None:
    """Each action on a resource that the documented policy allows, and every statement of it."""
    both = [{"type": "parquet", "url": "s3://bucket/table"}, {"type": "kinesis", "stream": "enriched"}]
    needs = list(permissions.needs(subject(settings={"sink": both}), "1", "eu-west-1", makes_tables=True))
    names = {
        "REGION": "eu-west-1",
        "ACCOUNT": "1",
        "STREAM": "events",
        "DOWNSTREAM": "enriched",
        "APPLICATION": "app",
        "BUCKET": "bucket",
        "TABLE": "table",
        "DEAD_LETTER": "dead",
    }
    asked = {(action, resource) for need in needs for action in need.actions for resource in need.resources}
    assert {action for action, _ in asked} == iam_policy.actions()
    for action, resource in asked:
        assert iam_policy.permits(action, resource, dict(sorted(names.items(), key=lambda item: -len(item[0])))), (
            action,
            resource,
        )


# -- leases


def dynamodb(index: str | None = "ACTIVE", status: str = "ACTIVE", key: str = "leaseKey") -> Client:
    table = {
        "TableName": "app",
        "TableStatus": status,
        "CreationDateTime": CREATED,
        "KeySchema": [{"AttributeName": key, "KeyType": "HASH"}],
        "GlobalSecondaryIndexes": [{"IndexName": "LeaseOwnerToLeaseKeyIndex", "IndexStatus": index}] if index else [],
    }
    return Client(describe_table=lambda **request: {"Table": table})


@pytest.mark.parametrize(
    ("client", "level"),
    [
        (dynamodb(), GREEN),
        (dynamodb(index=None), YELLOW),
        (dynamodb(index="CREATING"), RED),
        (dynamodb(status="DELETING"), RED),
        (dynamodb(key="id"), RED),
        (Client(describe_table=refused("ResourceNotFoundException")), GREEN),
    ],
)
def test_kcls_tables(client: Client, level: Level) -> None:
    assert level_of("tables", subject(clients={"dynamodb": client})) is level


@pytest.mark.parametrize(
    ("state", "level"),
    [
        (ApplicationState("app", NO_TABLES), GREEN),
        (ApplicationState("app", THREE_TABLES, (lease("s1"),)), GREEN),
        (ApplicationState("app", ONE_TABLE, (lease("s1"),)), RED),
        (ApplicationState("app", THREE_TABLES, (lease("shardId-000000000099"),)), RED),
        (
            ApplicationState(
                "app", THREE_TABLES, binding=Binding("events", int(CREATED.timestamp()), "TRIM_HORIZON", "t")
            ),
            GREEN,
        ),
        (ApplicationState("app", THREE_TABLES, binding=Binding("others", 1, "TRIM_HORIZON", "t")), RED),
        (ApplicationState("app", THREE_TABLES, binding=Binding("events", 1, "TRIM_HORIZON", "t")), RED),
    ],
)
def test_another_application_on_the_lease_table(state: ApplicationState, level: Level) -> None:
    assert level_of("application", subject(state=state)) is level


def workers(count: int) -> ApplicationState:
    reports = {f"w{number}": WorkerMetrics(f"w{number}", int(NOW_S) - 30, {}) for number in range(count)}
    return ApplicationState("app", THREE_TABLES, workers=reports)


@pytest.mark.parametrize(
    ("most", "tasks", "state", "level"),
    [
        (0, None, workers(0), GREEN),
        (1, None, workers(0), YELLOW),
        (1, 3, workers(0), RED),
        (1, 4, workers(0), YELLOW),
        (1, 5, workers(0), GREEN),
        (1, None, workers(3), RED),
        (2, None, workers(3), GREEN),
    ],
)
def test_max_leases(most: int, tasks: int | None, state: ApplicationState, level: Level) -> None:
    assert level_of("max_leases", subject(settings={"kcl": {"max_leases": most}}, tasks=tasks, state=state)) is level


def test_leases_of_parents_count_until_their_shards_are_read() -> None:
    done = lease("parent", sentinel="SHARD_END")
    state = ApplicationState("app", THREE_TABLES, (done, lease("old"), lease("s0")))
    assert subject(state=state).unfinished == 5


# -- sinks


class Refusing(MemoryStore):
    def check(self) -> None:
        raise Denied("s3://bucket/table: AccessDenied. Allow s3:PutObject")


class Careless(MemoryStore):
    """A store that writes although the condition is not met."""

    def check(self) -> None:
        self.put_new(PROBE, b"", {})


@pytest.mark.parametrize(("kind", "level"), [(MemoryStore, GREEN), (Refusing, RED), (Careless, RED)])
def test_prefixes_that_can_be_written_once(kind: type[MemoryStore], level: Level) -> None:
    assert level_of("stores", subject(store=lambda url: kind())) is level


def test_every_prefix_is_asked_and_nothing_is_written() -> None:
    made: dict[str, MemoryStore] = {}

    def store(url: str) -> MemoryStore:
        return made.setdefault(url, MemoryStore())

    assert level_of("stores", subject(store=store)) is GREEN
    assert sorted(made) == [
        "s3://bucket/dead",
        "s3://bucket/dead.staged",
        "s3://bucket/dead.suspects",
        "s3://bucket/table",
    ]
    assert all(not each.list("") for each in made.values())


@pytest.mark.parametrize(
    ("to", "takes", "passthrough", "level"),
    [
        ("enriched", 1024, {}, GREEN),
        ("enriched", 512, {}, YELLOW),
        ("enriched", 512, {"text": "string"}, RED),
        ("events", 1024, {}, RED),
        ("missing", None, {}, RED),
    ],
)
def test_downstream(to: str, takes: int | None, passthrough: dict[str, str], level: Level) -> None:
    def describe(StreamName: str) -> Any:  # noqa: N803  # boto's name
        if takes is None:
            refused("ResourceNotFoundException")()
        return {"StreamDescriptionSummary": summary(MaxRecordSizeInKiB=takes), "ResponseMetadata": {}}

    wanted = {"sink": [{"type": "kinesis", "stream": to}], "model": {"passthrough": passthrough}}
    try:
        examined = subject(settings=wanted, clients={"kinesis": Client(describe_stream_summary=describe)})
    except UserError:
        assert to == "events"  # then the configuration is refused already
        return
    assert level_of("downstream", examined) is level


# -- how checks are run


def test_an_error_of_a_check_is_a_finding_and_does_not_stop_others() -> None:
    def raises(error: Exception) -> Any:
        def check(examined: Subject) -> Iterator[Finding]:
            raise error
            yield

        return check

    denied = ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "ListShards")
    found = examine(
        {
            "mistake": raises(UserError("this is wrong. Do that")),
            "denied": raises(denied),
            "nobody": raises(NoCredentialsError()),
            "silent": raises(EndpointConnectionError(endpoint_url="x")),
            "well": lambda examined: iter([green("yes")]),
        },
        subject(),
    )
    by_name = dict(found)
    assert {name: finding.level for name, finding in by_name.items()} == {
        "mistake": RED,
        "denied": RED,
        "nobody": RED,
        "silent": YELLOW,
        "well": GREEN,
    }
    assert by_name["mistake"] == Finding(RED, "this is wrong", "Do that")
    assert "ListShards" in by_name["denied"].fix
