"""Putting records on a stream: each once, in the order of its key, at the rate, whatever Kinesis refuses."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest

from consumer.aws.aggregator import aggregated
from consumer.aws.put import PutEntry, largest_record_bytes, put_all
from consumer.aws.stream_reader import taken_apart
from consumer.local.kinesis.errors import KinesisError
from pipeline import kpl
from pipeline.errors import Fatal
from pipeline.hash_keys import HashRange
from tests.support.clocked_kinesis import ClockedKinesis

STREAM = "events"


class Time:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def kinesis() -> ClockedKinesis:
    made = ClockedKinesis()
    made.client.create_stream(StreamName=STREAM, ShardCount=4)
    made.now_ms += 1000
    return made


def on(kinesis: ClockedKinesis) -> dict[str, list[Any]]:
    """The records of each shard, in order."""
    client, found = kinesis.client, {}
    for shard in client.list_shards(StreamName=STREAM)["Shards"]:
        at = client.get_shard_iterator(StreamName=STREAM, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")[
            "ShardIterator"
        ]
        found[shard["ShardId"]] = client.get_records(ShardIterator=at)["Records"]
    return found


def entries(count: int, keys: int) -> list[PutEntry]:
    return [PutEntry(b"%d" % number, f"key-{number % keys}") for number in range(count)]


def fail_misplaced() -> None:
    pytest.fail("a user record of another shard")


def by_key(records: list[Any]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for record in records:
        found[record["PartitionKey"]].append(int(record["Data"]))
    return found


def refuse_some(client: Any, seed: int) -> None:
    """Each record of a call is refused in one of three cases, as by a full shard."""
    dice, call = random.Random(seed), client.put_records

    def put_records(StreamName: str, Records: list[Any]) -> Any:  # noqa: N803  # boto's names
        taken = [dice.random() > 0.3 for _ in Records]
        accepted = [record for record, take in zip(Records, taken, strict=True) if take]
        answers = iter(call(StreamName=StreamName, Records=accepted)["Records"] if accepted else ())
        refused = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "full"}
        return {"Records": [next(answers) if take else refused for take in taken]}

    client.put_records = put_records


@pytest.mark.parametrize("seed", range(5))
def test_each_record_is_put_once_in_key_order_despite_refusals(kinesis: ClockedKinesis, seed: int) -> None:
    time = Time()
    refuse_some(kinesis.client, seed)

    report = put_all(kinesis.client, STREAM, entries(1500, 40), clock=time, sleep=time.sleep)

    found = by_key([record for records in on(kinesis).values() for record in records])
    assert found == {f"key-{key}": list(range(key, 1500, 40)) for key in range(40)}
    assert (report.records, report.unfit) == (1500, 0)
    assert report.retried > 0
    assert sum(report.shards.values()) == 1500


def test_a_whole_call_that_is_throttled_is_made_again(kinesis: ClockedKinesis) -> None:
    time, left = Time(), [3]

    def throttle(operation: str, request: dict[str, Any]) -> None:
        if operation == "PutRecords" and left[0]:
            left[0] -= 1
            raise KinesisError("ThrottlingException", "slow down")

    kinesis.before = throttle
    report = put_all(kinesis.client, STREAM, entries(10, 10), clock=time, sleep=time.sleep)

    assert (report.records, report.calls, report.retried) == (10, 4, 30)


def test_two_minutes_without_an_accepted_record_are_an_error(kinesis: ClockedKinesis) -> None:
    time = Time()

    def throttle(operation: str, request: dict[str, Any]) -> None:
        if operation == "PutRecords":
            raise KinesisError("ThrottlingException", "slow down")

    kinesis.before = throttle
    with pytest.raises(Fatal, match="no record accepted for 12"):
        put_all(kinesis.client, STREAM, entries(10, 10), clock=time, sleep=time.sleep)


def test_errors_that_waiting_cannot_fix_are_raised_at_once(kinesis: ClockedKinesis) -> None:
    time = Time()
    with pytest.raises(kinesis.client.exceptions.ResourceNotFoundException):
        put_all(kinesis.client, "another", entries(1, 1), clock=time, sleep=time.sleep)
    assert time.now_s == 0


@pytest.mark.parametrize("rate", [0.5, 10, 700, 20_000])
def test_the_rate_is_kept(kinesis: ClockedKinesis, rate: float) -> None:
    time = Time()
    put_all(kinesis.client, STREAM, entries(1000, 1000), rate=rate, clock=time, sleep=time.sleep)
    assert 1000 / rate - max(500, 1) / rate <= time.now_s <= 1000 / rate


def test_records_that_no_stream_accepts_are_counted_and_stop_nothing(kinesis: ClockedKinesis) -> None:
    time = Time()
    largest = largest_record_bytes(kinesis.client, STREAM)
    unfit = [
        PutEntry(b"x" * largest, "k", source="line 1"),
        PutEntry(b"x", "", source="line 2"),
        PutEntry(b"x", "k" * 257, source="line 3"),
    ]
    fits = PutEntry(b"x" * (largest - 1), "k")

    report = put_all(kinesis.client, STREAM, [*unfit, fits], largest_bytes=largest, clock=time, sleep=time.sleep)

    assert (report.records, report.unfit) == (1, 3)
    assert [said.split(":")[0] for said in report.unfit_shown] == ["line 1", "line 2", "line 3"]


def test_aggregates_come_to_the_right_shard_and_keep_the_order_of_each_key(kinesis: ClockedKinesis) -> None:
    time, count = Time(), 5000
    shards = kinesis.client.list_shards(StreamName=STREAM)["Shards"]
    ranges = [
        HashRange(int(shard["HashKeyRange"]["StartingHashKey"]), int(shard["HashKeyRange"]["EndingHashKey"]))
        for shard in shards
    ]
    given = [*entries(count, 60), PutEntry(b"1" * 60_000, "key-0")]

    report = put_all(kinesis.client, STREAM, aggregated(given, ranges), clock=time, sleep=time.sleep)

    assert report.records == count + 1
    assert report.calls < 30
    found: dict[str, list[bytes]] = defaultdict(list)
    for shard, within in zip(shards, ranges, strict=True):
        for record in on(kinesis)[shard["ShardId"]]:
            list(taken_apart(record, within, fail_misplaced))
            message = kpl.message(record["Data"])
            users = message.users() if message else [(record["Data"], record["PartitionKey"], 0, "")]
            for data, key, _, fault in users:
                assert not fault
                found[str(key)].append(bytes(data))
    wanted = {f"key-{key}": [b"%d" % number for number in range(key, count, 60)] for key in range(60)}
    wanted["key-0"].append(b"1" * 60_000)
    assert found == wanted
