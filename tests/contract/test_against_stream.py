"""A table held against its stream on the local AWS: aggregates, a reshard, records that are lost or made up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aws_kinesis_agg.aggregator import RecordAggregator
from click.testing import CliRunner

from consumer.against_stream import Comparison, compare
from consumer.cli import main
from consumer.local.process import LocalAWS
from consumer.stream_records import StreamShard, arrivals, shards, taken_apart
from pipeline.record import Dead, Enriched, Record, Shard
from pipeline.sinks.chain import Chain, Names
from pipeline.sinks.parquet import Files
from pipeline.sinks.schema import TableSchema
from pipeline.sinks.store_folder import FolderStore
from tests.settled import ROWS, rows

STREAM = "events"
SCHEMA = TableSchema(ROWS, STREAM, "model@1")
WAIT_S = 15


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


def settled(kinesis: Any, shard: StreamShard) -> list[Record]:
    """The shard's records as the product's own writer is handed them; every seventh is dead."""
    found = [each for page in arrivals(kinesis, STREAM, shard) for each in page]
    records = []
    for number, (position, key, arrived_ms) in enumerate(found):
        last = number + 1 == len(found) or found[number + 1].position.sequence != position.sequence
        outcome = Dead(b"{}", "refused", "", 1) if number % 7 == 3 else Enriched(rows([number]), 0)
        record = Record(shard.shard_id, b"{}", key, str(position.sequence), position.sub, arrived_ms, last)
        records.append(replace(record, outcome=outcome))
    return records


def write(kinesis: Any, folder: Path, *, leave_out: int = 0, last: int | None = None, key: str = "") -> FolderStore:
    """The stream's table: without the first records of each shard after one, without those behind ``last``."""
    store = FolderStore(folder / "table")
    for shard in shards(kinesis, STREAM):
        records = settled(kinesis, shard)
        records = [*records[:1], *records[1 + leave_out :]][:last]
        if key and records:
            records[0] = replace(records[0], partition_key=key)
        names = Names(Shard(STREAM, created_s(kinesis), shard.shard_id), 1)
        files = Files(store, names, SCHEMA, FolderStore(folder / "dead"))
        chain = Chain(names, flush_interval_s=0, flush_bytes=10**6)
        for part in (records[: len(records) // 2], records[len(records) // 2 :]):
            chain.add(part, 0.0)
            chain.seal()
            while file := chain.next(0.0):
                chain.written(files.prepare(file, "writer")())
    return store


def against(kinesis: Any, store: FolderStore) -> Comparison:
    return compare(kinesis, STREAM, created_s(kinesis), store, 1)


def test_a_whole_table_is_what_the_stream_has_aggregates_and_parents_included(kinesis: Any, tmp_path: Path) -> None:
    found = against(kinesis, write(kinesis, tmp_path))
    assert found.problems(complete=True) == []
    assert found.totals() == {"compared": 65, "missing": 0, "alien": 0, "differs": 0, "behind": 0, "retired": 0}
    assert len(found.shards) == 6


def test_records_that_the_table_jumped_over_are_missing(kinesis: Any, tmp_path: Path) -> None:
    found = against(kinesis, write(kinesis, tmp_path, leave_out=2))
    assert found.totals()["missing"] == sum(len(shard.missing) for shard in found.shards) > 5
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
    found = compare(kinesis, STREAM, created_s(kinesis) - 100, write(kinesis, tmp_path), 1)
    assert found.totals()["compared"] == 0 and found.problems() == []


def test_an_aggregate_of_another_shards_keys_is_delivered_to_nobody(kinesis: Any) -> None:
    aggregates = [
        (shard, record)
        for shard in shards(kinesis, STREAM)
        for record in raw(kinesis, shard)
        if len(taken_apart(record, shard)) > 1
    ]
    [(shard, aggregate)] = aggregates
    assert [each.position.sub for each in taken_apart(aggregate, shard)] == [0, 1, 2, 3, 4]
    nowhere = StreamShard(shard.shard_id, 0, 0)
    assert taken_apart(aggregate, nowhere) == []
    broken = {**aggregate, "Data": aggregate["Data"][:-1] + b"?"}
    assert [each.position.sub for each in taken_apart(broken, nowhere)] == [0]


def raw(kinesis: Any, shard: StreamShard) -> list[Any]:
    at = kinesis.get_shard_iterator(StreamName=STREAM, ShardId=shard.shard_id, ShardIteratorType="TRIM_HORIZON")
    return list(kinesis.get_records(ShardIterator=at["ShardIterator"])["Records"])


def test_the_command_compares_too(aws: LocalAWS, kinesis: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in aws.env.items():
        monkeypatch.setenv(name, value)
    write(kinesis, tmp_path, leave_out=1)
    result = CliRunner().invoke(main, ["audit", str(tmp_path / "table"), "--stream", STREAM, "--json"])
    assert result.exit_code == 1 and '"missing": ' in result.stdout
    plain = CliRunner().invoke(main, ["audit", str(tmp_path / "table"), "--stream", STREAM])
    assert f"records of {STREAM} compared" in plain.stdout and "missing: shardId-" in plain.stdout
    absent = CliRunner().invoke(main, ["audit", str(tmp_path / "table"), "--stream", "no-such"])
    assert absent.exit_code == 2 and "no such stream" in absent.stderr and absent.stderr.count("\n") == 1
    alone = CliRunner().invoke(main, ["audit", str(tmp_path / "table"), "--complete"])
    assert alone.exit_code == 2 and "--stream" in alone.stderr
