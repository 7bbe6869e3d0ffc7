"""Shards are split and merged while one run writes to two sinks: Parquet has every record exactly once, a downstream
stream at least once and in order."""

from __future__ import annotations

import json
from collections import defaultdict

from tests.e2e.rig import Rig

PART = 200


def test_reshards_while_records_flow_to_two_sinks_lose_and_double_nothing(rig: Rig) -> None:
    downstream = f"{rig.name}-out"
    rig.kinesis.create_stream(StreamName=downstream, ShardCount=1)
    rig.create(shards=2)  # later than the other stream, and active
    sinks = (
        f'[[sink]]\ntype = "parquet"\nurl = "{rig.table}"\nflush_interval_s = 1\n'
        f'[[sink]]\ntype = "kinesis"\nstream = "{downstream}"'
    )
    worker = rig.start(rig.config(kcl="failover_ms = 4000", sinks=sinks))
    put(rig, 0)
    rig.enriched(PART // 10)
    rig.reshard(4)
    put(rig, PART)
    rig.reshard(3)
    put(rig, 2 * PART)
    rig.settle()
    assert worker.leave() == 0
    rows = rig.expect_each_once()
    assert rows["shard_id"].nunique() > 4
    downstream_has_all_in_order(rig.read(downstream), set(rows["record_id"]))


def put(rig: Rig, start: int) -> None:
    rig.put((json.dumps({"text": str(n)}).encode(), f"key-{n % 40}") for n in range(start, start + PART))


def downstream_has_all_in_order(sent: list[dict[str, str]], ids: set[str]) -> None:
    assert {record["record_id"] for record in sent} == ids
    by_key = defaultdict(list)
    for record in sent:
        by_key[record["partition_key"], record["shard_id"]].append(int(record["sequence_number"]))
    assert all(sequences == sorted(sequences) for sequences in by_key.values())
    assert {record["said"] for record in sent} == {str(number) for number in range(3 * PART)}
