"""A table compared with its stream on the local AWS: aggregates, a reshard, records that are missing or invented."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aws_kinesis_agg.aggregator import RecordAggregator
from botocore.config import Config
from botocore.exceptions import ClientError
from click.testing import CliRunner

from consumer.admin.audit_stream import Comparison, compare
from consumer.aws.stream_reader import arrivals, shards
from consumer.cli import main
from consumer.local.process import LocalAWS
from consumer.testing.aggregates import aggregate, field, sealed, user
from pipeline.errors import counted
from pipeline.hash_keys import HASH_KEYS, hash_of
from pipeline.record import Dead, Enriched, Position, Record, Shard
from pipeline.sinks.chain import Chain
from pipeline.sinks.parquet import Files
from pipeline.stores.folder import FolderStore
from pipeline.table.compare import held
from pipeline.table.names import Names, first_of, place_of
from pipeline.table.schema import TableSchema
from pipeline.table.staged_letters import Ledger
from tests.support.clocked_kinesis import HOUR_MS, ClockedKinesis
from tests.support.settled_records import ROWS, rows

STREAM = "events"
SCHEMA = TableSchema(ROWS, STREAM, "model@1")
WAIT_S = 15
FOUND = dict.fromkeys(("compared", "missing", "doubled", "alien", "differs", "behind", "retired", "misplaced"), 0)


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAWS]:
    with LocalAWS(limits=False) as local:
        made = local.client("kinesis")
        made.create_stream(StreamName=STREAM, ShardCount=2)
        active(made)
        for number in range(40):
            made.put_record(StreamName=STREAM, PartitionKey=f"key-{number}", Data=b"{}")
        aggregator = RecordAggregator()
        for number in range(5):
            aggregator.add_user_record("together", f"{number}".encode())
        key, _, data = aggregator.clear_and_get().get_contents()
        made.put_record(StreamName=STREAM, PartitionKey=key, Data=data)
        made.update_shard_count(StreamName=STREAM, TargetShardCount=4, ScalingType="UNIFORM_SCALING")
        active(made)
        for number in range(40, 60):
            made.put_record(StreamName=STREAM, PartitionKey=f"key-{number}", Data=b"{}")
        yield local


@pytest.fixture
def kinesis(aws: LocalAWS) -> Any:
    return aws.client("kinesis")


def active(kinesis: Any) -> None:
    deadline = time.monotonic() + WAIT_S
    while status(kinesis) != "ACTIVE":
        assert time.monotonic() < deadline


def status(kinesis: Any) -> str:
    return str(kinesis.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]["StreamStatus"])


def created_s(kinesis: Any) -> int:
    summary = kinesis.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]
    return int(summary["StreamCreationTimestamp"].timestamp())


def settled(kinesis: Any, shard_id: str) -> list[Record]:
    """The shard's records as the product's writer receives them; every seventh is dead."""
    found = [each for page in arrivals(kinesis, STREAM, shard_id) for each in page]
    records = []
    for number, (position, key, arrived_ms) in enumerate(found):
        last = number + 1 == len(found) or found[number + 1].position.sequence != position.sequence
        outcome = Dead(b"{}", "refused", "", 1) if number % 7 == 3 else Enriched(rows([number]), 0)
        record = Record(shard_id, b"{}", key, str(position.sequence), position.sub, arrived_ms, last)
        records.append(replace(record, outcome=outcome))
    return records


def write(kinesis: Any, folder: Path, *, leave_out: int = 0, last: int | None = None, key: str = "") -> FolderStore:
    """The stream's table: without the first records of each shard but one, and without those after ``last``."""
    store = FolderStore(folder / "table")
    for shard_id in shards(kinesis, STREAM):
        records = settled(kinesis, shard_id)
        records = [*records[:1], *records[1 + leave_out :]][:last]
        if key and records:
            records[0] = replace(records[0], partition_key=key)
        names = Names(Shard(STREAM, created_s(kinesis), shard_id))
        files = Files(store, names, SCHEMA, Ledger(FolderStore(folder / "dead"), FolderStore(folder / "staged")))
        chain = Chain(names, flush_interval_s=0, flush_bytes=10**6)
        for part in (records[: len(records) // 2], records[len(records) // 2 :]):
            chain.add(part, 0.0)
            chain.seal()
            while file := chain.next(0.0):
                chain.written(files.prepare(file, uuid.uuid4().hex)())
    return store


def against(kinesis: Any, store: FolderStore) -> Comparison:
    return compare(kinesis, STREAM, created_s(kinesis), store)


def test_a_complete_table_equals_the_stream_including_aggregates_and_parents(kinesis: Any, tmp_path: Path) -> None:
    found = against(kinesis, write(kinesis, tmp_path))
    assert found.problems(complete=True) == []
    assert found.totals() == FOUND | {"compared": 65}
    assert len(found.shards) == 6
    assert found.to_dict() == {"stream": STREAM, **found.totals(), "behind_by_shard": {}, "misplaced_by_shard": {}}


def test_records_that_the_table_jumped_over_are_missing(kinesis: Any, tmp_path: Path) -> None:
    found = against(kinesis, write(kinesis, tmp_path, leave_out=2))
    assert found.totals()["missing"] == sum(len(shard.missing.first) for shard in found.shards) > 5
    assert {problem.kind for problem in found.problems()} == {"missing"}


def test_records_that_were_not_read_yet_are_behind_and_no_problem_unless_all_is_due(
    kinesis: Any, tmp_path: Path
) -> None:
    found = against(kinesis, write(kinesis, tmp_path, last=2))
    assert found.totals()["behind"] == 65 - found.totals()["compared"] > 0
    assert found.problems() == []
    assert {problem.kind for problem in found.problems(complete=True)} == {"behind"}


def test_rows_with_another_key_differ(kinesis: Any, tmp_path: Path) -> None:
    found = against(kinesis, write(kinesis, tmp_path, key="another"))
    assert {problem.kind for problem in found.problems()} == {"differs"}


def test_rows_of_another_life_of_the_stream_are_of_no_concern(kinesis: Any, tmp_path: Path) -> None:
    found = compare(kinesis, STREAM, created_s(kinesis) - 100, write(kinesis, tmp_path))
    assert found.totals()["compared"] == 0 and found.problems() == []


def test_a_file_that_is_broken_is_missing_its_records_and_stops_nothing(kinesis: Any, tmp_path: Path) -> None:
    store = write(kinesis, tmp_path)
    first, *_, last = sorted((tmp_path / "table").rglob(f"*{shards(kinesis, STREAM)[0]}*"))
    rows_of_first = len([*held(store, [first.relative_to(tmp_path / "table").as_posix()])])
    whole = first.read_bytes()
    first.write_bytes(whole[:-100])
    found = against(kinesis, store)
    assert found.totals()["missing"] == rows_of_first > 0
    last.write_bytes(b"")
    shard = against(kinesis, store).shards[0]
    assert shard.reached is None and shard.behind > rows_of_first and shard.missing.count == 0
    first.write_bytes(whole)
    shard = against(kinesis, store).shards[0]
    assert shard.reached is not None and shard.compared == rows_of_first and shard.behind > 0


def test_a_file_that_is_there_twice_doubles_its_records(kinesis: Any, tmp_path: Path) -> None:
    store = write(kinesis, tmp_path)
    first, second = sorted((tmp_path / "table").rglob(f"*{shards(kinesis, STREAM)[0]}*"))
    place = first_of(second.name)
    later = second.name.replace(place_of(place), place_of(Position(place.sequence + 1, 0)))
    second.with_name(later).write_bytes(first.read_bytes())
    found = against(kinesis, store)
    assert {name for name, count in found.totals().items() if count} == {"compared", "doubled"}
    assert {problem.kind for problem in found.problems()} == {"doubled"}


def test_rows_older_than_the_stream_remembers_are_compared_no_more(tmp_path: Path) -> None:
    clocked = ClockedKinesis()
    kinesis = clocked.client
    kinesis.create_stream(StreamName=STREAM, ShardCount=2)
    clocked.now_ms += 1000
    put(kinesis, 30)
    kinesis.update_shard_count(StreamName=STREAM, TargetShardCount=4, ScalingType="UNIFORM_SCALING")
    clocked.now_ms += 1000
    active(kinesis)
    clocked.now_ms += 23 * HOUR_MS
    put(kinesis, 20)
    store = write(kinesis, tmp_path)
    clocked.now_ms += HOUR_MS + 1
    found = against(kinesis, store)
    assert found.problems(complete=True) == []
    assert found.totals() == FOUND | {"compared": 20, "retired": 30}
    assert len(found.shards) == 6 and len(shards(kinesis, STREAM)) == 4
    clocked.now_ms += 24 * HOUR_MS
    assert against(kinesis, store).totals() == FOUND | {"retired": 50}


def halves() -> list[str]:
    """A key in each half of the hash keys."""
    keys = sorted((f"key-{number}" for number in range(20)), key=hash_of)
    return [keys[0], keys[-1]]


def test_misplaced_aggregates_are_shown_and_are_not_a_problem(tmp_path: Path) -> None:
    """Aggregates of a KPL that does not know of a split yet. Records from before the split are in the parent, which is
    correct; a plain record cannot be judged, because its explicit hash key is not kept."""
    clocked = ClockedKinesis()
    kinesis = clocked.client
    kinesis.create_stream(StreamName=STREAM, ShardCount=1)
    clocked.now_ms += 1000
    both = aggregate([b"{}"] * 3, halves()[:1]), sealed_of_both()
    for data in both:
        kinesis.put_record(StreamName=STREAM, PartitionKey="k", ExplicitHashKey="0", Data=data)
    [parent] = shards(kinesis, STREAM)
    kinesis.split_shard(StreamName=STREAM, ShardToSplit=parent, NewStartingHashKey=str(HASH_KEYS // 2))
    clocked.now_ms += 1000
    for data in (*both, *both, b"{}"):
        kinesis.put_record(StreamName=STREAM, PartitionKey=halves()[1], ExplicitHashKey="0", Data=data)
    found = against(kinesis, write(kinesis, tmp_path))
    lower = shards(kinesis, STREAM)[1]
    assert found.problems(complete=True) == []
    assert found.totals() == FOUND | {"compared": 3 * 5 + 1, "misplaced": 2}
    assert found.misplaced == found.to_dict()["misplaced_by_shard"] == {lower: 2}
    clocked.now_ms += 1000
    arn = kinesis.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]["StreamARN"]
    kinesis.update_stream_mode(StreamARN=arn, StreamModeDetails={"StreamMode": "ON_DEMAND"})
    clocked.now_ms += 1000
    kinesis.update_stream_record_distribution_strategy(StreamARN=arn, RecordDistributionStrategy="AUTO")
    assert against(kinesis, FolderStore(tmp_path / "table")).misplaced == {}


def sealed_of_both() -> bytes:
    """An aggregate with a user record in each half of the hash keys."""
    return sealed(b"".join([field(1, key.encode()) for key in halves()]) + user(b"{}", 0) + user(b"{}", 1))


def test_the_command_shows_aggregates_of_another_shards_records(
    aws: LocalAWS, kinesis: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in aws.env.items():
        monkeypatch.setenv(name, value)
    kinesis.create_stream(StreamName="moved", ShardCount=2)
    kinesis.get_waiter("stream_exists").wait(StreamName="moved", WaiterConfig={"Delay": 1})
    kinesis.put_record(StreamName="moved", PartitionKey="k", ExplicitHashKey="0", Data=sealed_of_both())
    said = CliRunner().invoke(main, ["audit", str(tmp_path / "empty"), "--stream", "moved", "--complete"]).stdout
    assert "shardId-000000000000: user records of another shard's hash keys in 1 of its aggregates" in said
    assert "0 problems" not in said and "behind: " in said


def put(kinesis: Any, count: int) -> None:
    for number in range(count):
        kinesis.put_record(StreamName=STREAM, PartitionKey=f"key-{number}", Data=b"{}")


def test_a_table_that_grows_while_it_is_compared_has_no_problems(kinesis: Any, tmp_path: Path) -> None:
    class Growing(FolderStore):
        """A writer adds files between the listing of the files and the reading of the stream."""

        def list(self, prefix: str, *, limit: int | None = None) -> list[str]:
            keys = super().list(prefix, limit=limit)
            write(kinesis, tmp_path)
            return keys

    write(kinesis, tmp_path, last=2)
    found = against(kinesis, Growing(tmp_path / "table"))
    assert found.problems() == []
    assert found.totals()["behind"] > 0
    assert against(kinesis, FolderStore(tmp_path / "table")).totals()["behind"] == 0


def test_a_shard_that_cannot_be_read_ends_the_comparison_with_its_error(aws: LocalAWS, tmp_path: Path) -> None:
    """One shard fails at once, although the others would be read for long: here they are throttled for ever."""
    kinesis = aws.client("kinesis", config=Config(retries={"total_max_attempts": 1}))
    *_, refused = shards(kinesis, STREAM)
    store = write(kinesis, tmp_path)
    denied = aws.faults(kind="error", operation="GetShardIterator", match=refused, status=400, code="AccessDenied")
    with denied, aws.faults(kind="throttle", operation="GetRecords"), pytest.raises(ClientError, match="AccessDenied"):
        against(kinesis, store)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("audit")]


def test_the_command_compares_too(aws: LocalAWS, kinesis: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in aws.env.items():
        monkeypatch.setenv(name, value)
    write(kinesis, tmp_path, leave_out=1)
    result = CliRunner().invoke(main, ["audit", str(tmp_path / "table"), "--stream", STREAM, "--json"])
    assert result.exit_code == 1 and '"missing": ' in result.stdout
    plain = CliRunner().invoke(main, ["audit", str(tmp_path / "table"), "--stream", STREAM])
    assert f"records of {STREAM} compared" in plain.stdout and "missing: shardId-" in plain.stdout
    absent = CliRunner().invoke(main, ["audit", str(tmp_path / "table"), "--stream", "no-such"])
    assert absent.exit_code == 2 and "does not exist" in absent.stderr and absent.stderr.count("\n") == 1
    behind = CliRunner().invoke(main, ["audit", str(tmp_path / "empty"), "--stream", STREAM, "--complete"])
    assert behind.exit_code == 1 and "65 not read yet" in behind.stdout
    with aws.faults(kind="error", operation="GetRecords", status=400, code="AccessDeniedException"):
        denied = CliRunner().invoke(main, ["audit", str(tmp_path / "table"), "--stream", STREAM])
    assert denied.exit_code == 2 and denied.stderr.count("\n") == 1 and "GetRecords" in denied.stderr


def test_the_command_shows_unread_records_shard_by_shard(
    aws: LocalAWS, kinesis: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in aws.env.items():
        monkeypatch.setenv(name, value)
    write(kinesis, tmp_path, last=2)
    plain = CliRunner().invoke(main, ["audit", str(tmp_path / "table"), "--stream", STREAM])
    behind = against(kinesis, FolderStore(tmp_path / "table")).behind
    assert plain.exit_code == 0 and len(behind) > 2
    for shard_id, records in behind.items():
        assert f"{shard_id}: {counted(records, 'record')} not read yet\n" in plain.stdout
    said = json.loads(CliRunner().invoke(main, ["audit", str(tmp_path / "table"), "--stream", STREAM, "--json"]).stdout)
    assert said["against"]["behind_by_shard"] == behind and said["problems"] == []
