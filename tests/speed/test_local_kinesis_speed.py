"""The local Kinesis without limits is as fast as tests with many records need."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from consumer.local.process import LocalAWS
from tests.contract import kinesis_behaviours as behaviours
from tests.contract.kinesis_behaviours import stream
from tests.support.streams import active

RECORDS = 10_000
RECORDS_PER_S = 5_000
DELAYED_ACK_S = 0.04
"""The minimum time of an answer whose parts wait for each other's acknowledgement (Linux's TCP_DELACK_MIN)."""


@pytest.fixture(scope="module")
def local() -> Iterator[LocalAWS]:
    with LocalAWS(limits=False) as aws:
        yield aws


def test_an_answer_to_a_large_request_does_not_wait_for_an_acknowledgement(local: LocalAWS) -> None:
    records = [{"Data": b"d" * 1024, "PartitionKey": str(number)} for number in range(200)]
    times, kinesis = [], local.client("kinesis")
    with stream(kinesis) as name:
        for _ in range(60):
            started = time.perf_counter()
            assert kinesis.put_records(StreamName=name, Records=records)["FailedRecordCount"] == 0
            times.append(time.perf_counter() - started)
    assert sorted(times)[len(times) // 6] < DELAYED_ACK_S, times  # not the least: one in a while is lucky


def test_5000_records_of_1_kb_a_second_go_in_and_out(local: LocalAWS) -> None:
    with stream(local.client("kinesis")) as name:
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
