"""The local Kinesis's engine, with the test's clock and without a network."""

from __future__ import annotations

import hashlib
import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.local.kinesis import sequence
from consumer.local.kinesis.errors import KinesisError
from tests.support.local_kinesis import HASH_KEYS, Kinesis

MIB = 1 << 20


def ms(time_s: float) -> int:
    return round(time_s * 1000)


def numbers(shard: dict[str, Any]) -> tuple[int, int]:
    return int(shard["HashKeyRange"]["StartingHashKey"]), int(shard["HashKeyRange"]["EndingHashKey"])


# -- properties


@given(st.integers(1, 6), st.integers(0, 2**32), st.integers(1, 12))
def test_open_shards_always_partition_the_hash_keys(shards: int, seed: int, steps: int) -> None:
    kinesis, dice = Kinesis(shards), random.Random(seed)
    for _ in range(steps):
        reshard(kinesis, dice)
        ranges = [numbers(shard) for shard in kinesis.open()]
        assert ranges[0][0] == 0
        assert ranges[-1][1] == HASH_KEYS - 1
        assert all(left[1] + 1 == right[0] for left, right in pairwise(ranges))


def reshard(kinesis: Kinesis, dice: random.Random) -> None:
    """A change of the shards that AWS would permit."""
    found = kinesis.open()
    how = dice.choice(["split", "merge", "scale"])
    if how == "merge" and len(found) > 1:
        at = dice.randrange(len(found) - 1)
        kinesis.change("MergeShards", ShardToMerge=found[at]["ShardId"], AdjacentShardToMerge=found[at + 1]["ShardId"])
    elif how == "scale":
        kinesis.change("UpdateShardCount", TargetShardCount=dice.randint(1, 7), ScalingType="UNIFORM_SCALING")
    else:
        shard = dice.choice(found)
        start, end = numbers(shard)
        middle = dice.randint(start + 2, end - 1)
        kinesis.change("SplitShard", ShardToSplit=shard["ShardId"], NewStartingHashKey=str(middle))


def test_no_shard_of_one_hash_key_comes_of_rounding() -> None:
    kinesis = Kinesis(1)
    half = HASH_KEYS // 2 - 1
    kinesis.change("SplitShard", ShardToSplit="shardId-000000000000", NewStartingHashKey=str(half))
    kinesis.change("UpdateShardCount", TargetShardCount=4, ScalingType="UNIFORM_SCALING")
    ranges = [numbers(shard) for shard in kinesis.shards()]
    assert len(kinesis.open()) == 4
    assert all(end - start > HASH_KEYS // 8 for start, end in ranges)


@pytest.mark.parametrize("at", [0, 1, HASH_KEYS - 1])
def test_a_split_that_would_leave_a_shard_of_one_key_is_refused(at: int) -> None:
    kinesis = Kinesis(1)
    shard = "shardId-000000000000"
    assert kinesis.refused("SplitShard", ShardToSplit=shard, NewStartingHashKey=str(at)) == "InvalidArgumentException"


@given(st.integers(1, 4), st.integers(0, 2**32), st.integers(1, 8))
def test_following_shards_to_their_children_reads_every_record_once_and_in_order(
    shards: int, seed: int, steps: int
) -> None:
    kinesis, dice = Kinesis(shards), random.Random(seed)
    put: dict[str, list[int]] = {}
    for step in range(steps * 10):
        if step % 10 == 9:
            reshard(kinesis, dice)
        key = f"key-{dice.randrange(20)}"
        number = kinesis.put(str(step).encode(), key)["SequenceNumber"]
        put.setdefault(key, []).append(step)
        assert len(number) == 56
    read: dict[str, list[int]] = {}
    seen: dict[str, int] = {}
    waiting = [shard["ShardId"] for shard in kinesis.shards(Type="AT_TRIM_HORIZON")]
    done: set[str] = set()
    while waiting:
        shard_id = waiting.pop(0)
        records, children = kinesis.all_of(shard_id)
        done.add(shard_id)
        for record in records:
            read.setdefault(record["PartitionKey"], []).append(int(record["Data"]))
            assert int(record["SequenceNumber"]) > seen.get(record["PartitionKey"], 0)
            seen[record["PartitionKey"]] = int(record["SequenceNumber"])
        waiting += [
            child["ShardId"]
            for child in children
            if done >= set(child["ParentShards"]) and child["ShardId"] not in waiting
        ]
    assert read == put


@given(st.integers(2**30, 2**36 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**63 - 1), st.integers(0, 2**36 - 1))
def test_a_sequence_number_has_56_digits_and_contains_its_parts(
    epoch: int, shard: int, position: int, at_s: int
) -> None:
    text = sequence.number(sequence.prefix(epoch, shard), position, at_s)
    assert len(text) == 56
    assert sequence.parse(text) == (epoch, shard, position)


# -- where records go


def test_a_partition_key_goes_where_its_md5_says() -> None:
    kinesis = Kinesis(4)
    for at in range(50):
        key = int.from_bytes(hashlib.md5(f"k{at}".encode()).digest(), "big")
        shard = int(kinesis.put(key=f"k{at}")["ShardId"][-12:])
        start, end = numbers(kinesis.open()[shard])
        assert start <= key <= end


def test_an_explicit_hash_key_overrides_the_partition_key() -> None:
    kinesis = Kinesis(2)
    assert kinesis.put(ExplicitHashKey="0")["ShardId"].endswith("0")
    assert kinesis.put(ExplicitHashKey=str(HASH_KEYS - 1))["ShardId"].endswith("1")
    code = kinesis.refused("PutRecord", Data=b"", PartitionKey="k", ExplicitHashKey=str(HASH_KEYS))
    assert code == "InvalidArgumentException"


# -- iterators and reads


def test_each_kind_of_iterator_begins_where_it_says() -> None:
    kinesis = Kinesis()
    marks = []
    for at in range(5):
        kinesis.now_s += 1
        marks.append((kinesis.now_s, kinesis.put(str(at).encode())["SequenceNumber"]))
    kinesis.now_s += 1
    latest = kinesis.iterator(kind="LATEST")
    kinesis.put(b"5")
    time_s, number = marks[2]
    assert kinesis.data() == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert kinesis.data(kind="AT_SEQUENCE_NUMBER", StartingSequenceNumber=number) == [b"2", b"3", b"4", b"5"]
    assert kinesis.data(kind="AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=number) == [b"3", b"4", b"5"]
    assert kinesis.data(kind="AT_TIMESTAMP", Timestamp=ms(time_s)) == [b"2", b"3", b"4", b"5"]
    assert kinesis.data(kind="AT_TIMESTAMP", Timestamp=ms(time_s + 0.5)) == [b"3", b"4", b"5"]
    assert [record["Data"] for record in kinesis.read(latest)["Records"]] == [b"5"]
    first = kinesis.shards()[0]["SequenceNumberRange"]["StartingSequenceNumber"]
    assert len(kinesis.data(kind="AT_SEQUENCE_NUMBER", StartingSequenceNumber=first)) == 6


def test_a_sequence_number_of_another_or_no_shard_is_refused() -> None:
    kinesis = Kinesis(2)
    other = kinesis.put(ExplicitHashKey=str(HASH_KEYS - 1))["SequenceNumber"]
    for number in (other, "0", "12", "9" * 60):
        code = kinesis.refused(
            "GetShardIterator",
            ShardId="shardId-000000000000",
            ShardIteratorType="AT_SEQUENCE_NUMBER",
            StartingSequenceNumber=number,
        )
        assert code == "InvalidArgumentException"


def test_an_iterator_is_good_for_300_seconds() -> None:
    kinesis = Kinesis()
    iterator = kinesis.iterator()
    kinesis.now_s += 300
    assert kinesis.read(iterator)["Records"] == []
    kinesis.now_s += 1
    assert kinesis.refused("GetRecords", ShardIterator=iterator) == "ExpiredIteratorException"
    assert kinesis.refused("GetRecords", ShardIterator="nonsense") == "InvalidArgumentException"


def test_millis_behind_latest_is_the_age_of_the_next_record() -> None:
    kinesis = Kinesis()
    for _ in range(3):
        kinesis.put()
        kinesis.now_s += 10
    first = kinesis.read(kinesis.iterator(), Limit=1)
    assert first["MillisBehindLatest"] == 20_000
    rest = kinesis.read(first["NextShardIterator"])
    assert len(rest["Records"]) == 2
    assert rest["MillisBehindLatest"] == 0


def test_a_read_ends_before_it_exceeds_10_mib_but_is_never_empty_for_that() -> None:
    kinesis = Kinesis()
    kinesis.change(
        "UpdateMaxRecordSize", StreamARN="arn:aws:kinesis:us-east-1:123456789012:stream/s", MaxRecordSizeInKiB=10_240
    )
    for size in (9 * MIB, 9 * MIB, MIB // 2):
        kinesis.put(b"x" * size)
    first = kinesis.read(kinesis.iterator())
    assert len(first["Records"]) == 1
    assert len(kinesis.read(first["NextShardIterator"])["Records"]) == 2


def test_records_older_than_the_retention_are_deleted() -> None:
    kinesis = Kinesis()
    kinesis.put(b"old")
    old = kinesis.iterator()
    kinesis.now_s += 20 * 3600
    kinesis.put(b"new")
    kinesis.now_s += 5 * 3600
    assert kinesis.data() == [b"new"]
    assert kinesis.refused("GetRecords", ShardIterator=old) == "ExpiredIteratorException"


# -- the end of a shard


def test_a_closed_shard_keeps_its_records_and_ends_with_its_children() -> None:
    kinesis = Kinesis()
    last = kinesis.put(b"a")["SequenceNumber"]
    kinesis.change("SplitShard", ShardToSplit="shardId-000000000000", NewStartingHashKey=str(HASH_KEYS // 2))
    after = [kinesis.put(key=str(at)) for at in range(20)]
    end = kinesis.read(kinesis.iterator())
    assert [record["Data"] for record in end["Records"]] == [b"a"]
    assert "NextShardIterator" not in end
    assert [child["ShardId"][-1] for child in end["ChildShards"]] == ["1", "2"]
    assert all(child["ParentShards"] == ["shardId-000000000000"] for child in end["ChildShards"])
    ending = int(kinesis.shards()[0]["SequenceNumberRange"]["EndingSequenceNumber"])
    assert int(last) < ending < min(int(answer["SequenceNumber"]) for answer in after)
    assert {answer["ShardId"][-1] for answer in after} == {"1", "2"}


def test_a_merged_child_names_both_parents() -> None:
    kinesis = Kinesis(2)
    kinesis.change("MergeShards", ShardToMerge="shardId-000000000000", AdjacentShardToMerge="shardId-000000000001")
    child = kinesis.open()[0]
    assert child["ParentShardId"] == "shardId-000000000000"
    assert child["AdjacentParentShardId"] == "shardId-000000000001"
    end = kinesis.read(kinesis.iterator(1))
    assert end["ChildShards"][0]["ParentShards"] == ["shardId-000000000000", "shardId-000000000001"]


def test_shards_that_are_not_neighbours_or_are_closed_do_not_merge() -> None:
    kinesis = Kinesis(3)
    first, second, third = (f"shardId-{at:012d}" for at in range(3))
    code = kinesis.refused("MergeShards", ShardToMerge=first, AdjacentShardToMerge=third)
    assert code == "InvalidArgumentException"
    kinesis.change("MergeShards", ShardToMerge=second, AdjacentShardToMerge=first)
    code = kinesis.refused("MergeShards", ShardToMerge=second, AdjacentShardToMerge=third)
    assert code == "InvalidArgumentException"


# -- listing shards


def test_each_shard_filter_leaves_the_shards_it_says() -> None:
    kinesis = Kinesis(2)
    kinesis.now_s += 10
    before_s = kinesis.now_s
    kinesis.now_s += 10
    kinesis.change("UpdateShardCount", TargetShardCount=4, ScalingType="UNIFORM_SCALING")
    kinesis.now_s += 10
    assert kinesis.ids() == [0, 1, 2, 3, 4, 5]
    assert kinesis.ids(Type="AT_TRIM_HORIZON") == [0, 1]
    assert kinesis.ids(Type="FROM_TRIM_HORIZON") == [0, 1, 2, 3, 4, 5]
    assert kinesis.ids(Type="AT_LATEST") == [2, 3, 4, 5]
    assert kinesis.ids(Type="AT_TIMESTAMP", Timestamp=ms(before_s)) == [0, 1]
    assert kinesis.ids(Type="AT_TIMESTAMP", Timestamp=ms(kinesis.now_s)) == [2, 3, 4, 5]
    assert kinesis.ids(Type="FROM_TIMESTAMP", Timestamp=ms(before_s)) == [0, 1, 2, 3, 4, 5]
    assert kinesis.ids(Type="FROM_TIMESTAMP", Timestamp=ms(kinesis.now_s)) == [2, 3, 4, 5]
    assert kinesis.ids(Type="AFTER_SHARD_ID", ShardId="shardId-000000000003") == [4, 5]
    kinesis.now_s += 25 * 3600
    assert kinesis.ids() == [2, 3, 4, 5]
    assert kinesis.ids(Type="AT_TRIM_HORIZON") == [2, 3, 4, 5]


def test_a_listing_of_shards_comes_in_pages() -> None:
    kinesis = Kinesis(5)
    page = kinesis("ListShards", MaxResults=2, ShardFilter={"Type": "AT_LATEST"})
    token = page["NextToken"]
    found = page["Shards"]
    while "NextToken" in page:
        page = kinesis("ListShards", MaxResults=2, NextToken=page["NextToken"])
        found += page["Shards"]
    assert [shard["ShardId"] for shard in found] == [f"shardId-{at:012d}" for at in range(5)]
    assert kinesis.refused("ListShards", NextToken=token, StreamName="s") == "InvalidArgumentException"
    kinesis.now_s += 301
    assert kinesis.refused("ListShards", NextToken=token) == "ExpiredNextTokenException"


# -- a stream that distributes its records by itself

ARN = "arn:aws:kinesis:us-east-1:123456789012:stream/s"
ON_DEMAND = {"StreamMode": "ON_DEMAND"}


def auto(kinesis: Kinesis, distribution: str = "AUTO") -> None:
    kinesis.change("UpdateStreamRecordDistributionStrategy", StreamARN=ARN, RecordDistributionStrategy=distribution)


def strategy(kinesis: Kinesis) -> str | None:
    summary: dict[str, str] = kinesis("DescribeStreamSummary")["StreamDescriptionSummary"]
    return summary.get("RecordDistributionStrategy")


def test_in_auto_records_are_spread_over_all_shards_for_any_keys() -> None:
    kinesis = Kinesis(2)
    kinesis.change("UpdateStreamMode", StreamARN=ARN, StreamModeDetails=ON_DEMAND)
    assert strategy(kinesis) == "USER_PARTITION_KEY"
    assert kinesis.refused("PutRecord", Data=b"x") == "InvalidArgumentException"
    assert kinesis.refused("PutRecords", Records=[{"Data": b"x"}]) == "InvalidArgumentException"
    auto(kinesis)
    assert strategy(kinesis) == "AUTO"
    one = [kinesis("PutRecord", Data=b"x")["ShardId"] for _ in range(4)]
    many = kinesis("PutRecords", Records=[{"Data": b"x", "PartitionKey": "k", "ExplicitHashKey": "0"}] * 4)["Records"]
    for shard_ids in (one, [each["ShardId"] for each in many]):
        assert sorted(shard_ids) == sorted(2 * [shard["ShardId"] for shard in kinesis.open()])
    for shard in (0, 1):
        keys = [record.get("PartitionKey", "none") for record in kinesis.read(kinesis.iterator(shard))["Records"]]
        assert keys == ["none", "none", "k", "k"]
    auto(kinesis, "USER_PARTITION_KEY")
    assert len({kinesis.put()["ShardId"] for _ in range(4)}) == 1
    assert kinesis.refused("PutRecord", Data=b"x") == "InvalidArgumentException"


def test_auto_is_for_streams_on_demand() -> None:
    kinesis = Kinesis()
    assert strategy(kinesis) is None
    asked = {"RecordDistributionStrategy": "AUTO"}
    assert kinesis.refused("UpdateStreamRecordDistributionStrategy", StreamARN=ARN, **asked) == (
        "InvalidArgumentException"
    )
    assert kinesis.refused("CreateStream", StreamName="t", ShardCount=1, **asked) == "InvalidArgumentException"
    wrong = {"RecordDistributionStrategy": "BY_LUCK"}
    assert kinesis.refused("CreateStream", StreamName="t", StreamModeDetails=ON_DEMAND, **wrong) == (
        "ValidationException"
    )
    kinesis.change("CreateStream", StreamName="t", StreamModeDetails=ON_DEMAND, **asked)
    put = kinesis("PutRecords", StreamName="t", Records=[{"Data": b"x"}] * 8)["Records"]
    assert len({each["ShardId"] for each in put}) == 4
    provisioned = {"StreamMode": "PROVISIONED"}
    arn = ARN.replace("/s", "/t")
    assert kinesis.refused("UpdateStreamMode", StreamARN=arn, StreamModeDetails=provisioned) == (
        "InvalidArgumentException"
    )


# -- limits


def entries(count: int, size: int, key: str = "k") -> list[dict[str, Any]]:
    return [{"Data": b"x" * size, "PartitionKey": key} for _ in range(count)]


def test_a_shard_takes_1000_records_a_second_and_names_those_it_refuses() -> None:
    kinesis = Kinesis(limits=True)
    assert kinesis("PutRecords", Records=entries(500, 1))["FailedRecordCount"] == 0
    assert kinesis("PutRecords", Records=entries(500, 1))["FailedRecordCount"] == 0
    answer = kinesis("PutRecords", Records=entries(10, 1))
    assert answer["FailedRecordCount"] == 10
    assert answer["Records"][0]["ErrorCode"] == "ProvisionedThroughputExceededException"
    assert "SequenceNumber" not in answer["Records"][0]
    assert kinesis.refused("PutRecord", Data=b"", PartitionKey="k") == "ProvisionedThroughputExceededException"
    kinesis.now_s += 0.005
    assert kinesis("PutRecords", Records=entries(10, 1))["FailedRecordCount"] == 5


def test_a_shard_takes_1_mib_a_second() -> None:
    kinesis = Kinesis(limits=True)
    assert kinesis("PutRecords", Records=entries(8, MIB // 4 - 1))["FailedRecordCount"] == 4
    kinesis.now_s += 0.5
    assert kinesis("PutRecords", Records=entries(4, MIB // 4 - 1))["FailedRecordCount"] == 2


def test_a_shard_gives_5_reads_and_2_mib_a_second() -> None:
    kinesis = Kinesis(limits=True)
    iterator = kinesis.iterator()
    for _ in range(5):
        kinesis.read(iterator)
    assert kinesis.refused("GetRecords", ShardIterator=iterator) == "ProvisionedThroughputExceededException"
    for _ in range(8):
        kinesis.now_s += 1
        kinesis.put(b"x" * (MIB - 1))
    assert len(kinesis.read(kinesis.iterator())["Records"]) == 8
    kinesis.now_s += 2
    assert kinesis.refused("GetRecords", ShardIterator=kinesis.iterator()) == "ProvisionedThroughputExceededException"
    kinesis.now_s += 1.01
    assert kinesis.read(kinesis.iterator())["Records"]


def test_without_limits_nothing_is_too_fast() -> None:
    kinesis = Kinesis()
    for _ in range(20):
        assert kinesis("PutRecords", Records=entries(500, 1))["FailedRecordCount"] == 0
        kinesis.read(kinesis.iterator())


def test_sizes_are_bounded_as_on_aws() -> None:
    kinesis = Kinesis()
    assert kinesis.put(b"x" * (MIB - 1), "k")["ShardId"]
    assert kinesis.refused("PutRecord", Data=b"x" * MIB, PartitionKey="k") == "ValidationException"
    assert kinesis.refused("PutRecord", Data=b"x", PartitionKey="") == "ValidationException"
    assert kinesis.put(key="ü" * 256)["ShardId"]
    assert kinesis.refused("PutRecord", Data=b"x", PartitionKey="k" * 257) == "ValidationException"
    assert kinesis.refused("PutRecords", Records=entries(501, 1)) == "ValidationException"
    assert kinesis.refused("PutRecords", Records=[]) == "ValidationException"
    assert kinesis.refused("PutRecords", Records=entries(11, MIB - 10)) == "InvalidArgumentException"
    assert len(kinesis.data()) == 2


def test_a_shard_count_at_most_doubles_at_least_halves_and_changes_10_times_a_day() -> None:
    kinesis = Kinesis(4, limits=True)
    for target in (9, 1):
        code = kinesis.refused("UpdateShardCount", TargetShardCount=target, ScalingType="UNIFORM_SCALING")
        assert code == "LimitExceededException"
    for at in range(10):
        kinesis.change("UpdateShardCount", TargetShardCount=4 + at % 2, ScalingType="UNIFORM_SCALING")
    code = kinesis.refused("UpdateShardCount", TargetShardCount=4, ScalingType="UNIFORM_SCALING")
    assert code == "LimitExceededException"
    kinesis.now_s += 86_400
    kinesis.change("UpdateShardCount", TargetShardCount=4, ScalingType="UNIFORM_SCALING")
    assert len(kinesis.open()) == 4


# -- the stream


def status(kinesis: Kinesis) -> str:
    return str(kinesis("DescribeStreamSummary")["StreamDescriptionSummary"]["StreamStatus"])


def test_changes_take_their_time_and_exclude_each_other() -> None:
    kinesis = Kinesis()
    kinesis("UpdateShardCount", TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    assert status(kinesis) == "UPDATING"
    code = kinesis.refused("UpdateShardCount", TargetShardCount=4, ScalingType="UNIFORM_SCALING")
    assert code == "ResourceInUseException"
    assert kinesis.put()["ShardId"]
    kinesis.now_s += 0.3
    assert status(kinesis) == "ACTIVE"
    kinesis("DeleteStream")
    assert status(kinesis) == "DELETING"
    assert kinesis.put()["ShardId"], "AWS may take records until the stream is gone"
    assert kinesis.refused("CreateStream", ShardCount=1) == "ResourceInUseException"
    kinesis.now_s += 0.3
    assert kinesis.refused("DescribeStream") == "ResourceNotFoundException"
    kinesis("CreateStream", ShardCount=1)
    assert status(kinesis) == "CREATING"
    assert kinesis.refused("ListShards") == "ResourceInUseException"


def test_an_iterator_of_a_deleted_stream_is_no_iterator_of_its_successor() -> None:
    kinesis = Kinesis()
    iterator = kinesis.iterator()
    kinesis.change("DeleteStream")
    kinesis.change("CreateStream", ShardCount=1)
    assert kinesis.refused("GetRecords", ShardIterator=iterator) == "ResourceNotFoundException"


def test_a_stream_may_be_named_by_its_arn() -> None:
    kinesis = Kinesis()
    arn = kinesis("DescribeStreamSummary")["StreamDescriptionSummary"]["StreamARN"]
    assert kinesis("DescribeStream", StreamARN=arn)["StreamDescription"]["StreamName"] == "s"
    assert kinesis.refused("DescribeStream", StreamARN="arn:aws:s3:::s") == "ValidationException"
    assert kinesis.refused("DescribeStream", StreamARN=arn, StreamName="t") == "InvalidArgumentException"


def test_an_arn_of_another_account_or_region_is_not_our_stream() -> None:
    kinesis = Kinesis()
    ours = kinesis("DescribeStreamSummary")["StreamDescriptionSummary"]["StreamARN"]
    kinesis("RegisterStreamConsumer", StreamARN=ours, ConsumerName="c")
    strangers = (
        ours.replace("123456789012", "210987654321"),
        ours.replace("us-east-1", "eu-west-1"),
        ours.replace("arn:aws:", "arn:aws-cn:"),
    )
    for arn in strangers:
        for operation, body in (
            ("DescribeStream", {"StreamARN": arn}),
            ("ListStreamConsumers", {"StreamARN": arn}),
            ("ListTagsForResource", {"ResourceARN": arn}),
            ("DescribeStreamConsumer", {"ConsumerARN": f"{arn}/consumer/c:{round(kinesis.now_s)}"}),
            ("DescribeStreamConsumer", {"StreamARN": arn, "ConsumerName": "c"}),
        ):
            assert kinesis.refused(operation, **body) == "ResourceNotFoundException", (operation, arn)
    assert kinesis("DescribeStreamConsumer", StreamARN=ours, ConsumerName="c")


def test_retention_only_goes_the_way_its_operation_says() -> None:
    kinesis = Kinesis()
    kinesis.change("IncreaseStreamRetentionPeriod", RetentionPeriodHours=48)
    assert kinesis("DescribeStream")["StreamDescription"]["RetentionPeriodHours"] == 48
    code = kinesis.refused("IncreaseStreamRetentionPeriod", RetentionPeriodHours=36)
    assert code == "InvalidArgumentException"
    kinesis.change("DecreaseStreamRetentionPeriod", RetentionPeriodHours=24)
    assert kinesis.refused("DecreaseStreamRetentionPeriod", RetentionPeriodHours=23) == "InvalidArgumentException"


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("DescribeStream", {"StreamName": "s p a c e"}),
        ("DescribeStream", {"Limit": 0}),
        ("CreateStream", {"StreamName": "t", "ShardCount": 0}),
        ("GetShardIterator", {"ShardId": "shardId-000000000000", "ShardIteratorType": "SOMEWHERE"}),
        ("GetShardIterator", {"ShardIteratorType": "LATEST"}),
        ("GetRecords", {"ShardIterator": "x", "Limit": 10_001}),
        ("ListShards", {"ShardFilter": {"Type": "NEAR"}}),
    ],
)
def test_violations_of_the_api_model_are_validation_errors(operation: str, body: dict[str, Any]) -> None:
    assert Kinesis().refused(operation, **body) == "ValidationException"


def test_a_value_of_another_type_cannot_be_read() -> None:
    kinesis = Kinesis()
    assert kinesis.refused("DescribeStream", StreamName=1) == "SerializationException"
    assert kinesis.refused("GetRecords", ShardIterator="x", Limit=True) == "SerializationException"
    assert kinesis.refused("ReceiveQueueRecords") == "UnknownOperationException"
    for body, says in (
        ({"StreamName": 1}, "streamName must be a string; it is a whole number"),
        ({"Limit": 1.5}, "limit must be a whole number; it is a number with a fraction or an exponent"),
        ({"Limit": 1e30}, "limit must be from 1 to 10000; it is 1e+30"),
    ):
        with pytest.raises(KinesisError) as refused:
            kinesis("DescribeStream", **body)
        assert refused.value.message == says
