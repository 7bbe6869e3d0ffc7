"""The local Kinesis without limits is as fast as tests with many records need."""

from __future__ import annotations

import os
import time

from consumer.local.process import LocalAWS
from tests.contract import kinesis_behaviours as behaviours
from tests.contract.kinesis_behaviours import stream
from tests.support.streams import active

RECORDS = 10_000
RECORDS_PER_S = 5_000


def test_5000_records_of_1_kb_a_second_go_in_and_out() -> None:
    with LocalAWS(limits=False) as local, stream(local.client("kinesis")) as name:
        kinesis = local.client("kinesis")
        entries = [{"Data": os.urandom(1000), "PartitionKey": str(at)} for at in range(500)]
        began = time.monotonic()
        for _ in range(RECORDS // 500):
            assert kinesis.put_records(StreamName=name, Records=entries)["FailedRecordCount"] == 0
        put_s = time.monotonic() - began
        began, read = time.monotonic(), 0
        iterator: str = behaviours.iterator(kinesis, name, "shardId-000000000000")
        while read < RECORDS:
            answer = kinesis.get_records(ShardIterator=iterator, Limit=2000)
            read, iterator = read + len(answer["Records"]), answer["NextShardIterator"]
        read_s = time.monotonic() - began
        active(kinesis, name)
    assert RECORDS / put_s > RECORDS_PER_S
    assert RECORDS / read_s > RECORDS_PER_S
