"""``penstock doctor``: leases, sinks, and how checks are run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from consumer.admin.doctor.findings import Finding, Level, examine, green
from consumer.admin.doctor.subject import Subject
from consumer.leases.binding import Binding
from consumer.leases.state import NO_TABLES, ONE_TABLE, THREE_TABLES, ApplicationState, WorkerMetrics
from pipeline.errors import UserError
from pipeline.stores.base import Denied
from pipeline.stores.memory import MemoryStore
from pipeline.stores.s3 import PROBE
from tests.support.examined import (
    CREATED,
    GREEN,
    NOW_S,
    RED,
    YELLOW,
    Client,
    dynamodb,
    lease,
    level_of,
    refused,
    subject,
    summary,
)


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
