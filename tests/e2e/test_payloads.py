"""Whatever producers send: one row or one dead letter each, with the right identity."""

from __future__ import annotations

import json

import aws_kinesis_agg.aggregator

from examples.corpus import records
from pipeline.record import Position
from tests.e2e.rig import Rig

AGGREGATED = 40
MEGABYTE = 1024 * 1024


def test_every_payload_is_one_row_or_one_dead_letter(rig: Rig) -> None:
    rig.create(shards=2)
    worker = rig.start()
    bad = {
        "empty": b"",
        "utf8": b'{"text": "\xff\xfe"}',
        "json": b"{not json",
        "array": b"[1, 2]",
        "refused": b'{"text": 7}',
    }
    bad_ids = dict(zip(bad, rig.put((payload, name) for name, payload in bad.items()), strict=True))
    good = rig.put(records(20, seed=7))
    large = rig.put([(json.dumps({"text": "x " * (MEGABYTE // 2 - 20)}).encode(), "large")])
    aggregated = put_aggregate(rig)
    rig.settle()
    assert worker.leave() == 0

    rows, dead = rig.rows(), rig.dead_letters()
    assert sorted(rows["record_id"]) == sorted(good + large + aggregated)
    assert sorted(letter["record_id"] for letter in dead) == sorted(bad_ids.values())
    by_id = {letter["record_id"]: letter for letter in dead}
    assert "JSON" in by_id[bad_ids["json"]]["reason"]
    assert "text" in by_id[bad_ids["refused"]]["reason"]
    for name, payload in bad.items():
        letter = by_id[bad_ids[name]]
        assert letter["partition_key"] == name
        assert letter["attempts"] >= 1 and letter["model_version"] == "test-1"
        assert payload_of(letter) == payload


def payload_of(letter: dict[str, str]) -> bytes:
    import base64

    return base64.b64decode(letter["payload_base64"])


def put_aggregate(rig: Rig) -> list[str]:
    """One Kinesis record that holds many, as the KPL makes them, though not all of its shard's keys; their record ids.

    KCL's default is to drop such an aggregate, whole and in silence.
    """
    aggregator = aws_kinesis_agg.aggregator.RecordAggregator()
    for data, key in records(AGGREGATED, seed=8):
        assert aggregator.add_user_record(key, data) is None
    key, _, data = aggregator.clear_and_get().get_contents()
    answer = rig.kinesis.put_record(StreamName=rig.name, Data=data, PartitionKey=key)
    shard, sequence = answer["ShardId"], answer["SequenceNumber"]
    rig.ends[shard] = Position(int(sequence), AGGREGATED - 1)
    return [f"{rig.name}/{shard}/{sequence}/{sub}" for sub in range(AGGREGATED)]
