"""Records of every kind: each becomes one row or one dead letter, with the right identity, in a task with the replicas
and threads that ``penstock tune`` has found best on the stream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aws_kinesis_agg.aggregator
from click.testing import CliRunner

from consumer.admin.audit_stream import compare
from consumer.cli import main
from consumer.testing.aggregates import aggregate, field, sealed, user
from examples.demo.corpus import records
from pipeline.kpl import AggregateMessage, Malformed
from pipeline.record import Position
from pipeline.stores.folder import FolderStore
from pipeline.table.audit import audit
from tests.e2e.rig import Rig, Worker

AGGREGATED = 40
TEXT = b'{"text": "of an aggregate"}'
TABLES = field(1, b"key") + field(2, b"ff00") + field(2, b"%d" % 2**128)
MEGABYTE = 1024 * 1024
PICKY = 'factory = "tests.e2e.models:Picky"\nversion = "test-1"'
KEYLESS = {"keyless, no JSON": b"{neither JSON", "keyless, empty": b""}


def test_every_payload_is_one_row_or_one_dead_letter(rig: Rig) -> None:
    rig.create(shards=2)
    downstream = f"{rig.name}-out"
    rig.kinesis.create_stream(StreamName=downstream, ShardCount=1)
    rig.kinesis.get_waiter("stream_exists").wait(StreamName=downstream, WaiterConfig={"Delay": 1})
    sinks = f'[[sink]]\ntype = "parquet"\nurl = "{rig.table}"\nflush_interval_s = 2\n'
    config = rig.config(model=PICKY, sinks=f'{sinks}[[sink]]\ntype = "kinesis"\nstream = "{downstream}"')
    good = rig.put(records(20, seed=7))
    best = tuned(rig, config)
    worker = rig.start(config)
    bad = {
        "empty": b"",
        "utf8": b'{"text": "\xff\xfe"}',
        "json": b"{not json",
        "array": b"[1, 2]",
        "refused": b'{"text": 7}',
    }
    bad_ids = dict(zip(bad, rig.put((payload, name) for name, payload in bad.items()), strict=True))
    large = rig.put([(json.dumps({"text": "x " * (MEGABYTE // 2 - 20)}).encode(), "large")])
    aggregated = put_aggregate(rig)
    alive, dead_ids = put_hostile(rig)
    rig.settle()
    expect_used(best, worker, config)
    assert b"penstock_misplaced_aggregates_total 0.0" not in worker.get("/metrics")[1]
    rig.distributes_by_itself()
    keyless = rig.put([(TEXT, None), (TEXT, None)])
    bad_ids |= zip(KEYLESS, rig.put((payload, None) for payload in KEYLESS.values()), strict=True)
    rig.settle()
    assert worker.leave() == 0

    rows, dead = rig.rows(), rig.dead_letters()
    assert sorted(rows["record_id"]) == sorted(good + large + aggregated + alive + keyless)
    assert sorted(rows["record_id"][rows["partition_key"].isna()]) == sorted(keyless)
    sent = rig.read(downstream)
    too_large = [letter for letter in dead if letter["kind"] == "sink"]
    assert [letter["record_id"] for letter in too_large] == large
    assert {row["record_id"] for row in sent} == set(rows["record_id"]) - set(large)
    assert {row["record_id"] for row in sent if row["partition_key"] is None} == set(keyless)
    assert sorted(letter["record_id"] for letter in dead) == sorted([*bad_ids.values(), *dead_ids, *large])
    by_id = {letter["record_id"]: letter for letter in dead}
    assert {by_id[each]["kind"] for each in dead_ids} == {"aggregate", "decode"}
    assert "JSON" in by_id[bad_ids["json"]]["reason"]
    assert "text" in by_id[bad_ids["refused"]]["reason"]
    for name, payload in {**bad, **KEYLESS}.items():
        letter = by_id[bad_ids[name]]
        assert letter["partition_key"] == (None if name in KEYLESS else name)
        assert letter["attempts"] >= 1 and letter["model_version"] == "test-1"
        assert payload_of(letter) == payload
    audited(rig)


def tuned(rig: Rig, config: Path) -> dict[str, Any]:
    """The choice of ``penstock tune``."""
    command = ["tune", "--config", str(config), "--seconds", "1", "--json"]
    result = CliRunner().invoke(main, command, env=rig.aws.env)
    assert result.exit_code == 0, result.output
    best: dict[str, Any] = json.loads(result.stdout)["best"]
    return best


def expect_used(best: dict[str, Any], worker: Worker, config: Path) -> None:
    assert len(worker.tree()["replica"]) == best["replicas"]
    said = [str(entry["msg"]) for entry in worker.entries()]
    [used] = [line for line in said if line.startswith(f"{config.stem}.profile.json of ")]
    assert used.endswith(f"replicas {best['replicas']}, threads {best['threads']}")


def audited(rig: Rig) -> None:
    """Check that the table has what the stream has, including records without a key."""
    table, letters = FolderStore(rig.table), FolderStore(rig.folder / "dead-letter")
    assert audit(table, letters).problems == []
    summary = rig.kinesis.describe_stream_summary(StreamName=rig.name)["StreamDescriptionSummary"]
    found = compare(rig.kinesis, rig.name, int(summary["StreamCreationTimestamp"].timestamp()), table, letters)
    assert found.problems(complete=True) == []


HOSTILE = {
    "many empty": (aggregate([b""] * 5_000, ["K" * 250]), 0, 5_000),
    "long key": (aggregate([b""] * 1_500 + [TEXT], ["K" * 20_000]), 1, 1_500),
    "many small": (aggregate([TEXT] * 1_000), 1_000, 0),
    "hash key that is text": (sealed(TABLES + user(TEXT) + user(TEXT, 0, 0)), 1, 1),
    "hash key too large": (sealed(TABLES + user(TEXT) + user(TEXT) + user(TEXT, 0, 1)), 2, 1),
    "key that is not there": (sealed(TABLES + user(TEXT) + user(TEXT, 7)), 1, 1),
    "cut off": (sealed(TABLES + user(TEXT) + b"\x1a\x7f"), 0, 1),
    "no user record": (sealed(TABLES), 0, 1),
    "one within another": (aggregate([TEXT, aggregate([TEXT])]), 1, 1),
}
"""Records that KCL would drop, that would end it, or that would become hundreds of megabytes; with the number of rows
and dead letters that they must become."""


def put_hostile(rig: Rig) -> tuple[list[str], list[str]]:
    """The record ids that must be rows, and those that must be dead letters."""
    alive, dead = list[str](), list[str]()
    for data, rows, letters in HOSTILE.values():
        answer = rig.kinesis.put_record(StreamName=rig.name, Data=data, PartitionKey="hostile")
        shard, sequence = answer["ShardId"], answer["SequenceNumber"]
        rig.ends[shard] = Position(int(sequence), 0)
        ids = [f"{rig.name}/{shard}/{sequence}/{sub}" for sub in range(rows + letters)]
        fates = [fault or not data.startswith(b'{"') for data, _, _, fault in _users(data)] or [True]
        alive += [each for each, is_dead in zip(ids, fates, strict=True) if not is_dead]
        dead += [each for each, is_dead in zip(ids, fates, strict=True) if is_dead]
    return alive, dead


def _users(data: bytes) -> list[tuple[bytes, str | None, int, str]]:
    try:
        return list(AggregateMessage(data).users())
    except Malformed:
        return []


def payload_of(letter: dict[str, str]) -> bytes:
    import base64

    return base64.b64decode(letter["payload_base64"])


def put_aggregate(rig: Rig) -> list[str]:
    """Put one Kinesis record with many user records, as the KPL makes them, some of them with keys of another shard.
    Return their record ids.

    KCL would drop the whole aggregate without a message.
    """
    aggregator = aws_kinesis_agg.aggregator.RecordAggregator()
    for data, key in records(AGGREGATED, seed=8):
        assert aggregator.add_user_record(key, data) is None
    key, _, data = aggregator.clear_and_get().get_contents()
    answer = rig.kinesis.put_record(StreamName=rig.name, Data=data, PartitionKey=key)
    shard, sequence = answer["ShardId"], answer["SequenceNumber"]
    rig.ends[shard] = Position(int(sequence), AGGREGATED - 1)
    return [f"{rig.name}/{shard}/{sequence}/{sub}" for sub in range(AGGREGATED)]
