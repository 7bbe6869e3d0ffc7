"""One run writes to several sinks: Parquet exactly once, a downstream stream at least once and in order."""

from __future__ import annotations

import json
from collections import defaultdict

from tests.e2e.rig import Rig

RECORDS = 300
ECHO = 'factory = "tests.e2e.models:Echo"\nversion = "test-1"\nthreads = 1'


def test_one_run_feeds_parquet_and_a_downstream_stream(rig: Rig) -> None:
    downstream = f"{rig.name}-out"
    rig.create(shards=2)
    rig.kinesis.create_stream(StreamName=downstream, ShardCount=1)
    rig.kinesis.get_waiter("stream_exists").wait(StreamName=downstream, WaiterConfig={"Delay": 1})
    sinks = (
        f'[[sink]]\ntype = "parquet"\nurl = "{rig.table}"\nflush_interval_s = 1\n'
        f'[[sink]]\ntype = "kinesis"\nstream = "{downstream}"'
    )
    worker = rig.start(rig.config(model=ECHO, sinks=sinks))
    rig.put((json.dumps({"text": str(number)}).encode(), f"key-{number % 40}") for number in range(RECORDS))
    rig.settle()
    assert worker.leave() == 0
    rows = rig.expect_each_once()
    sent = rig.read(downstream)
    assert sorted({record["record_id"] for record in sent}) == sorted(rows["record_id"])
    by_key = defaultdict(list)
    for record in sent:
        by_key[record["partition_key"], record["shard_id"]].append(int(record["sequence_number"]))
    assert all(sequences == sorted(sequences) for sequences in by_key.values())
    assert {record["said"] for record in sent} == {str(number) for number in range(RECORDS)}
