"""The behaviour of Kinesis, through boto3. Each test runs on the local Kinesis, and on any other that is compared with
it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

from tests.support.streams import active, until

HASH_KEYS = 1 << 128
_names = (f"contract-{number}" for number in itertools.count())


@contextmanager
def stream(kinesis: Any, shards: int = 1) -> Iterator[str]:
    name = next(_names)
    kinesis.create_stream(StreamName=name, ShardCount=shards)
    active(kinesis, name)
    yield name
    kinesis.delete_stream(StreamName=name, EnforceConsumerDeletion=True)


def refusal(call: Callable[..., Any], **asked: Any) -> str:
    """The error code with which a call is refused."""
    try:
        call(**asked)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    raise AssertionError("the call was not refused")


def shards_of(kinesis: Any, name: str, **filter: Any) -> list[str]:
    asked = {"ShardFilter": filter} if filter else {}
    return [shard["ShardId"] for shard in kinesis.list_shards(StreamName=name, **asked)["Shards"]]


def iterator(kinesis: Any, name: str, shard_id: str, kind: str = "TRIM_HORIZON", **more: Any) -> str:
    asked = {"StreamName": name, "ShardId": shard_id, "ShardIteratorType": kind, **more}
    return str(kinesis.get_shard_iterator(**asked)["ShardIterator"])


def read(kinesis: Any, name: str, shard_id: str, kind: str = "TRIM_HORIZON", **more: Any) -> dict[str, Any]:
    return dict(kinesis.get_records(ShardIterator=iterator(kinesis, name, shard_id, kind, **more)))


def data(answer: dict[str, Any]) -> list[bytes]:
    return [record["Data"] for record in answer["Records"]]


def scale(kinesis: Any, name: str, target: int) -> None:
    kinesis.update_shard_count(StreamName=name, TargetShardCount=target, ScalingType="UNIFORM_SCALING")
    active(kinesis, name)


# -- behaviours


def a_record_comes_back_as_it_was_put(kinesis: Any) -> None:
    with stream(kinesis) as name:
        put = kinesis.put_record(StreamName=name, Data=bytes(range(256)), PartitionKey="kéy")
        (record,) = read(kinesis, name, put["ShardId"])["Records"]
        assert record["Data"] == bytes(range(256))
        assert record["PartitionKey"] == "kéy"
        assert record["SequenceNumber"] == put["SequenceNumber"]
        assert abs(record["ApproximateArrivalTimestamp"].timestamp() - time.time()) < 30


def records_come_in_the_order_of_their_sequence_numbers(kinesis: Any) -> None:
    with stream(kinesis) as name:
        entries = [{"Data": str(at).encode(), "PartitionKey": str(at)} for at in range(50)]
        assert kinesis.put_records(StreamName=name, Records=entries)["FailedRecordCount"] == 0
        records = read(kinesis, name, "shardId-000000000000")["Records"]
        assert [int(record["Data"]) for record in records] == list(range(50))
        numbers = [int(record["SequenceNumber"]) for record in records]
        assert numbers == sorted(set(numbers))


def sequence_numbers_have_56_digits(kinesis: Any) -> None:
    with stream(kinesis) as name:
        put = kinesis.put_record(StreamName=name, Data=b"", PartitionKey="k")
        assert len(put["SequenceNumber"]) == 56


def each_kind_of_iterator_begins_where_it_says(kinesis: Any) -> None:
    with stream(kinesis) as name:
        shard = "shardId-000000000000"
        latest = iterator(kinesis, name, shard, "LATEST")
        numbers = [
            kinesis.put_record(StreamName=name, Data=str(at).encode(), PartitionKey="k")["SequenceNumber"]
            for at in range(3)
        ]
        assert data(read(kinesis, name, shard)) == [b"0", b"1", b"2"]
        assert data(kinesis.get_records(ShardIterator=latest)) == [b"0", b"1", b"2"]
        at = {"StartingSequenceNumber": numbers[1]}
        assert data(read(kinesis, name, shard, "AT_SEQUENCE_NUMBER", **at)) == [b"1", b"2"]
        assert data(read(kinesis, name, shard, "AFTER_SEQUENCE_NUMBER", **at)) == [b"2"]
        assert data(read(kinesis, name, shard, "AT_TIMESTAMP", Timestamp=time.time() - 3600)) == [b"0", b"1", b"2"]


def shards_share_the_hash_keys_evenly(kinesis: Any) -> None:
    with stream(kinesis, 4) as name:
        found = kinesis.list_shards(StreamName=name)["Shards"]
        starts = [int(shard["HashKeyRange"]["StartingHashKey"]) for shard in found]
        ends = [int(shard["HashKeyRange"]["EndingHashKey"]) for shard in found]
        assert starts == [at * HASH_KEYS // 4 for at in range(4)]
        assert ends == [at * HASH_KEYS // 4 - 1 for at in range(1, 5)]


def explicit_hash_keys_choose_the_shard(kinesis: Any) -> None:
    with stream(kinesis, 2) as name:
        for key, shard in ((0, 0), (HASH_KEYS // 2 - 1, 0), (HASH_KEYS // 2, 1), (HASH_KEYS - 1, 1)):
            put = kinesis.put_record(StreamName=name, Data=b"", PartitionKey="k", ExplicitHashKey=str(key))
            assert put["ShardId"] == f"shardId-{shard:012d}"


def a_split_shard_keeps_its_records_and_ends_with_its_children(kinesis: Any) -> None:
    with stream(kinesis) as name:
        parent = "shardId-000000000000"
        put = kinesis.put_record(StreamName=name, Data=b"before", PartitionKey="k")
        kinesis.split_shard(StreamName=name, ShardToSplit=parent, NewStartingHashKey=str(HASH_KEYS // 2))
        active(kinesis, name)
        after = kinesis.put_record(StreamName=name, Data=b"after", PartitionKey="k")
        assert after["ShardId"] != parent
        assert int(after["SequenceNumber"]) > int(put["SequenceNumber"])
        end = read(kinesis, name, parent)
        assert data(end) == [b"before"]
        if "NextShardIterator" in end:  # some say so with the read after the last record
            end = kinesis.get_records(ShardIterator=end["NextShardIterator"])
        assert "NextShardIterator" not in end
        assert sorted(child["ShardId"] for child in end["ChildShards"]) == [
            "shardId-000000000001",
            "shardId-000000000002",
        ]
        assert all(child["ParentShards"] == [parent] for child in end["ChildShards"])


def a_merged_shard_names_both_parents(kinesis: Any) -> None:
    with stream(kinesis, 2) as name:
        first, second = shards_of(kinesis, name)
        kinesis.merge_shards(StreamName=name, ShardToMerge=first, AdjacentShardToMerge=second)
        active(kinesis, name)
        child = kinesis.list_shards(StreamName=name, ShardFilter={"Type": "AT_LATEST"})["Shards"][0]
        assert {child["ParentShardId"], child["AdjacentParentShardId"]} == {first, second}


def a_doubled_stream_lists_parents_at_its_horizon_and_children_at_its_latest(kinesis: Any) -> None:
    with stream(kinesis, 2) as name:
        parents = shards_of(kinesis, name)
        scale(kinesis, name, 4)
        assert sorted(shards_of(kinesis, name, Type="AT_TRIM_HORIZON")) == parents
        latest = shards_of(kinesis, name, Type="AT_LATEST")
        assert len(latest) == 4
        assert not set(latest) & set(parents)
        assert sorted(shards_of(kinesis, name)) == sorted(parents + latest)
        assert sorted(shards_of(kinesis, name, Type="AFTER_SHARD_ID", ShardId=parents[-1])) == sorted(latest)


def a_listing_of_shards_comes_in_pages(kinesis: Any) -> None:
    with stream(kinesis, 5) as name:
        first = kinesis.list_shards(StreamName=name, MaxResults=3)
        rest = kinesis.list_shards(NextToken=first["NextToken"], MaxResults=3)
        assert len(first["Shards"]) == 3
        assert len(rest["Shards"]) == 2
        assert "NextToken" not in rest


def millis_behind_latest_is_0_at_the_tip_only(kinesis: Any) -> None:
    with stream(kinesis) as name:
        for _ in range(2):
            kinesis.put_record(StreamName=name, Data=b"", PartitionKey="k")
        time.sleep(0.02)  # what is measured is time
        start = iterator(kinesis, name, "shardId-000000000000")
        first = kinesis.get_records(ShardIterator=start, Limit=1)
        assert first["MillisBehindLatest"] > 0
        assert kinesis.get_records(ShardIterator=first["NextShardIterator"])["MillisBehindLatest"] == 0


def what_is_not_there_is_not_found(kinesis: Any) -> None:
    assert refusal(kinesis.describe_stream, StreamName="nowhere") == "ResourceNotFoundException"
    assert refusal(kinesis.put_record, StreamName="nowhere", Data=b"", PartitionKey="k") == "ResourceNotFoundException"
    with stream(kinesis) as name:
        asked = {"StreamName": name, "ShardId": "shardId-000000000009", "ShardIteratorType": "LATEST"}
        assert refusal(kinesis.get_shard_iterator, **asked) == "ResourceNotFoundException"
        assert refusal(kinesis.create_stream, StreamName=name, ShardCount=1) == "ResourceInUseException"


def arguments_out_of_bounds_are_refused(kinesis: Any) -> None:
    refused = {"ValidationException", "InvalidArgumentException"}
    with stream(kinesis) as name:
        put = {"StreamName": name, "PartitionKey": "k"}
        assert refusal(kinesis.put_record, **put, Data=b"x" * ((1 << 20) + 1)) in refused
        assert refusal(kinesis.put_record, **put, Data=b"", ExplicitHashKey=str(HASH_KEYS)) in refused
        entries = [{"Data": b"", "PartitionKey": "k"}] * 501
        assert refusal(kinesis.put_records, StreamName=name, Records=entries) in refused
        assert refusal(kinesis.get_records, ShardIterator="nonsense") in refused


def a_shard_count_at_most_doubles(kinesis: Any) -> None:
    with stream(kinesis, 2) as name:
        asked = {"StreamName": name, "ScalingType": "UNIFORM_SCALING"}
        code = refusal(kinesis.update_shard_count, **asked, TargetShardCount=5)
        assert code in {"LimitExceededException", "InvalidArgumentException"}


def a_shard_takes_1000_records_a_second(kinesis: Any) -> None:
    with stream(kinesis) as name:
        entries = [{"Data": b"", "PartitionKey": "k"}] * 500
        answers = [kinesis.put_records(StreamName=name, Records=entries) for _ in range(6)]
        refused = [record for answer in answers for record in answer["Records"] if "ErrorCode" in record]
        assert len(refused) == sum(answer["FailedRecordCount"] for answer in answers)
        assert {record["ErrorCode"] for record in refused} == {"ProvisionedThroughputExceededException"}


def a_shard_gives_5_reads_a_second(kinesis: Any) -> None:
    with stream(kinesis) as name:
        start = iterator(kinesis, name, "shardId-000000000000")
        began = time.monotonic()
        for _ in range(12):
            kinesis.get_records(ShardIterator=start)  # boto3 tries again when it was too fast
        assert time.monotonic() - began > 1


def tags_are_kept(kinesis: Any) -> None:
    with stream(kinesis) as name:
        kinesis.add_tags_to_stream(StreamName=name, Tags={"a": "1", "b": "2"})
        kinesis.remove_tags_from_stream(StreamName=name, TagKeys=["a"])
        assert kinesis.list_tags_for_stream(StreamName=name)["Tags"] == [{"Key": "b", "Value": "2"}]


def retention_is_kept(kinesis: Any) -> None:
    with stream(kinesis) as name:
        kinesis.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=48)
        active(kinesis, name)
        described = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
        assert described["RetentionPeriodHours"] == 48


def consumers_come_and_go(kinesis: Any) -> None:
    with stream(kinesis) as name:
        arn = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
        kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="c")
        asked = {"StreamARN": arn, "ConsumerName": "c"}

        def status() -> str:
            return str(kinesis.describe_stream_consumer(**asked)["ConsumerDescription"]["ConsumerStatus"])

        until(lambda: status() == "ACTIVE", "the consumer is active")
        assert [found["ConsumerName"] for found in kinesis.list_stream_consumers(StreamARN=arn)["Consumers"]] == ["c"]
        kinesis.deregister_stream_consumer(**asked)
        until(lambda: not kinesis.list_stream_consumers(StreamARN=arn)["Consumers"], "the consumer is gone")


def streams_are_listed_by_name(kinesis: Any) -> None:
    with stream(kinesis) as one, stream(kinesis) as two:
        found = kinesis.list_streams()["StreamNames"]
        assert {one, two} <= set(found)
        assert found == sorted(found)


def a_stream_whose_shards_are_not_counted_has_4(kinesis: Any) -> None:
    name = next(_names)
    kinesis.create_stream(StreamName=name)
    active(kinesis, name)
    assert len(shards_of(kinesis, name)) == 4
    kinesis.delete_stream(StreamName=name)


def quoted_iterators_are_taken_and_odd_tags_refused(kinesis: Any) -> None:
    with stream(kinesis) as name:
        put = kinesis.put_record(StreamName=name, Data=b"here", PartitionKey="k")
        quoted = f'"{iterator(kinesis, name, put["ShardId"])}"'
        assert data(kinesis.get_records(ShardIterator=quoted)) == [b"here"]
        for character in ";\t\n,%":
            assert refusal(kinesis.add_tags_to_stream, StreamName=name, Tags={f"a{character}": "b"}) == (
                "InvalidArgumentException"
            )


def a_sequence_number_goes_with_iterators_that_begin_there(kinesis: Any) -> None:
    with stream(kinesis) as name:
        put = kinesis.put_record(StreamName=name, Data=b"", PartitionKey="k")
        asked = {"StreamName": name, "ShardId": put["ShardId"], "StartingSequenceNumber": put["SequenceNumber"]}
        for kind in ("LATEST", "TRIM_HORIZON"):
            code = refusal(kinesis.get_shard_iterator, **asked, ShardIteratorType=kind)
            assert code == "InvalidArgumentException"


BEHAVIOURS: tuple[Callable[[Any], None], ...] = (
    a_record_comes_back_as_it_was_put,
    records_come_in_the_order_of_their_sequence_numbers,
    sequence_numbers_have_56_digits,
    each_kind_of_iterator_begins_where_it_says,
    shards_share_the_hash_keys_evenly,
    explicit_hash_keys_choose_the_shard,
    a_split_shard_keeps_its_records_and_ends_with_its_children,
    a_merged_shard_names_both_parents,
    a_doubled_stream_lists_parents_at_its_horizon_and_children_at_its_latest,
    a_listing_of_shards_comes_in_pages,
    millis_behind_latest_is_0_at_the_tip_only,
    what_is_not_there_is_not_found,
    arguments_out_of_bounds_are_refused,
    a_shard_count_at_most_doubles,
    a_shard_takes_1000_records_a_second,
    a_shard_gives_5_reads_a_second,
    tags_are_kept,
    retention_is_kept,
    consumers_come_and_go,
    streams_are_listed_by_name,
    a_stream_whose_shards_are_not_counted_has_4,
    quoted_iterators_are_taken_and_odd_tags_refused,
    a_sequence_number_goes_with_iterators_that_begin_there,
)
