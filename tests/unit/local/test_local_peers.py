"""Tests of the local Kinesis that come from the suites of moto, kinesalite and LocalStack, and from eight clients."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import botocore.session
import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.local.access import stream_of
from consumer.local.codecs import CBOR, JSON, Codec
from consumer.local.kinesis.api_model import OPERATIONS
from consumer.local.kinesis.engine import Engine
from consumer.local.kinesis.errors import KinesisError
from consumer.local.kinesis.operations import HANDLERS, SUBSCRIBE, perform, subscribe
from consumer.local.kinesis.shapes import Blob, Flag, ListOf, MapOf, Number, Shape, Struct, Text
from tests.support.local_kinesis import HASH_KEYS, START_S, Kinesis

ARN = "arn:aws:kinesis:us-east-1:123456789012:stream/s"
ON_DEMAND = {"StreamMode": "ON_DEMAND"}
INVALID, UNSUPPORTED = "InvalidArgumentException", "ValidationException"


def on_demand(**more: Any) -> Kinesis:
    kinesis = Kinesis(2)
    kinesis.change("UpdateStreamMode", StreamARN=ARN, StreamModeDetails=ON_DEMAND, **more)
    return kinesis


# -- streams and shards


def test_a_stream_whose_count_of_shards_is_not_said_has_4() -> None:
    kinesis = Kinesis()
    for name, more in (("t", {}), ("u", {"StreamModeDetails": ON_DEMAND}), ("v", {"ShardCount": None})):
        kinesis.change("CreateStream", StreamName=name, **more)
        assert len(kinesis("ListShards", StreamName=name)["Shards"]) == 4


def test_the_shards_of_an_on_demand_stream_cannot_be_changed() -> None:
    kinesis = on_demand()
    first, second = (shard["ShardId"] for shard in kinesis.open())
    assert kinesis.refused("SplitShard", ShardToSplit=first, NewStartingHashKey=str(HASH_KEYS // 4)) == UNSUPPORTED
    assert kinesis.refused("MergeShards", ShardToMerge=first, AdjacentShardToMerge=second) == UNSUPPORTED
    asked = {"TargetShardCount": 4, "ScalingType": "UNIFORM_SCALING"}
    assert kinesis.refused("UpdateShardCount", **asked) == UNSUPPORTED
    assert len(kinesis.open()) == 2


def test_a_page_is_no_longer_than_aws_makes_it() -> None:
    kinesis = Kinesis(101)
    for at in range(105):
        kinesis("CreateStream", StreamName=f"t{at}", ShardCount=1)
    assert len(kinesis("DescribeStream", Limit=10_000)["StreamDescription"]["Shards"]) == 100
    assert len(kinesis("ListStreams", Limit=10_000)["StreamNames"]) == 100
    kinesis("CreateStream", StreamName="wide", ShardCount=1001)
    kinesis.now_s += 1
    assert len(kinesis("ListShards", StreamName="wide", MaxResults=10_000)["Shards"]) == 1000


def test_a_member_that_is_null_is_not_given() -> None:
    kinesis = Kinesis()
    kinesis("CreateStream", StreamName="t", StreamModeDetails=None, Tags=None, RecordDistributionStrategy=None)
    assert kinesis("ListShards", MaxResults=None, ShardFilter={"Type": "AT_LATEST", "Timestamp": None})["Shards"]
    assert kinesis("DescribeStream", Limit=None)["StreamDescription"]["Shards"]
    assert kinesis("ListStreams", StreamName=None, ExclusiveStartStreamName=None)["StreamNames"] == ["s", "t"]
    assert kinesis.read(kinesis.iterator(), Limit=None)["Records"] == []


# -- iterators


def test_an_iterator_may_be_in_the_quotes_that_the_cli_prints() -> None:
    kinesis = Kinesis()
    kinesis.put(b"here")
    quoted = f'"{kinesis.iterator()}"'
    assert [record["Data"] for record in kinesis.read(quoted)["Records"]] == [b"here"]
    for wrong in ('"', '""', quoted[1:], quoted[:-1], f'"{quoted}"'):
        assert kinesis.refused("GetRecords", ShardIterator=wrong) == INVALID


@pytest.mark.parametrize("kind", ["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"])
def test_a_sequence_number_is_refused_where_the_iterator_does_not_begin_there(kind: str) -> None:
    kinesis = Kinesis()
    asked: dict[str, Any] = {"ShardId": "shardId-000000000000", "ShardIteratorType": kind}
    if kind == "AT_TIMESTAMP":
        asked["Timestamp"] = round(START_S * 1000)
    assert kinesis("GetShardIterator", **asked)
    number = kinesis.put()["SequenceNumber"]
    assert kinesis.refused("GetShardIterator", **asked, StartingSequenceNumber=number) == INVALID


@pytest.mark.parametrize("time", [b"1e308", b"-1e308", b"1e300", b"-1", b"true", b'"now"', b"[]", b"1e999", b"9" * 400])
@pytest.mark.parametrize(
    "body",
    [
        b'{"StreamName":"s","ShardId":"shardId-000000000000","ShardIteratorType":"AT_TIMESTAMP","Timestamp":%s}',
        b'{"StreamName":"s","StreamCreationTimestamp":%s}',
        b'{"StreamName":"s","ShardFilter":{"Type":"AT_TIMESTAMP","Timestamp":%s}}',
    ],
)
def test_a_time_that_is_none_is_an_answer_of_400(body: bytes, time: bytes) -> None:
    operation = "GetShardIterator" if b"ShardId" in body else "ListShards"
    kinesis = Kinesis()
    with pytest.raises(KinesisError) as refused:
        kinesis(operation, **JSON.decode(operation, body % time))
    assert refused.value.status == 400


@pytest.mark.parametrize("time", [float("inf"), float("-inf"), float("nan"), 1e308, 10**400, -(10**400)])
def test_a_time_in_cbor_that_is_none_is_an_answer_of_400(time: float) -> None:
    for value in (time, cbor2.CBORTag(1, time)):
        with pytest.raises(KinesisError) as refused:
            Kinesis()("ListShards", **CBOR.decode("ListShards", cbor2.dumps({"StreamCreationTimestamp": value})))
        assert refused.value.status == 400


# -- tags


@pytest.mark.parametrize("character", [*";\t\n,%<>&|\\\"'*?!#$^()[]{}~`", "\x00", "\x7f", "\u200b", "€", "😀"])
def test_other_characters_of_tags_are_refused(character: str) -> None:
    kinesis, text = Kinesis(), f"a{character}b"
    for tags in ({text: "v"}, {"k": text}):
        assert kinesis.refused("AddTagsToStream", Tags=tags) == INVALID
        assert kinesis.refused("TagResource", ResourceARN=ARN, Tags=tags) == INVALID
        assert kinesis.refused("CreateStream", StreamName="t", ShardCount=1, Tags=tags) == INVALID
        assert kinesis.refused("RegisterStreamConsumer", StreamARN=ARN, ConsumerName="c", Tags=tags) == INVALID
    assert kinesis.refused("RemoveTagsFromStream", TagKeys=[text]) == INVALID
    assert kinesis.refused("UntagResource", ResourceARN=ARN, TagKeys=[text]) == INVALID
    assert kinesis("ListTagsForStream")["Tags"] == []
    assert "t" not in kinesis("ListStreams")["StreamNames"]


def test_allowed_characters_of_tags_are_kept() -> None:
    kinesis, text = Kinesis(), "Aé漢字٣ \u00a0_.:/=+-@9"
    kinesis("AddTagsToStream", Tags={text: text})
    assert kinesis("ListTagsForStream")["Tags"] == [{"Key": text, "Value": text}]


# -- a stream that distributes by itself, and warm throughput


def test_in_auto_no_order_can_be_asked_for() -> None:
    kinesis = on_demand()
    number = kinesis.put(SequenceNumberForOrdering=kinesis.put()["SequenceNumber"])["SequenceNumber"]
    kinesis.change("UpdateStreamRecordDistributionStrategy", StreamARN=ARN, RecordDistributionStrategy="AUTO")
    assert kinesis.refused("PutRecord", Data=b"", SequenceNumberForOrdering=number) == INVALID


def commit(kinesis: Kinesis, status: str = "ENABLED") -> str:
    asked = {"MinimumThroughputBillingCommitment": {"Status": status}}
    return str(kinesis("UpdateAccountSettings", **asked)["MinimumThroughputBillingCommitment"]["Status"])


def warm(kinesis: Kinesis) -> dict[str, int] | None:
    summary: dict[str, dict[str, int]] = kinesis("DescribeStreamSummary")["StreamDescriptionSummary"]
    return summary.get("WarmThroughput")


def test_a_warm_stream_has_a_shard_for_each_mib() -> None:
    kinesis = on_demand()
    assert warm(kinesis) is None
    commit(kinesis)
    assert warm(kinesis) == {"TargetMiBps": 2, "CurrentMiBps": 2}
    answer = kinesis("UpdateStreamWarmThroughput", WarmThroughputMiBps=7)
    assert answer["WarmThroughput"] == {"TargetMiBps": 7, "CurrentMiBps": 2}
    kinesis.now_s += 1
    assert warm(kinesis) == {"TargetMiBps": 7, "CurrentMiBps": 7}
    assert len(kinesis.open()) == 7
    kinesis.change("UpdateStreamWarmThroughput", StreamARN=ARN, WarmThroughputMiBps=0)
    assert len(kinesis.open()) == 4
    kinesis.change("CreateStream", StreamName="t", StreamModeDetails=ON_DEMAND, WarmThroughputMiBps=9)
    assert len(kinesis("ListShards", StreamName="t")["Shards"]) == 9
    kinesis.change("UpdateStreamMode", StreamARN=ARN, StreamModeDetails=ON_DEMAND, WarmThroughputMiBps=5)
    assert len(kinesis.open()) == 5


def test_the_most_warm_throughput_is_as_many_shards_in_pages_of_1000() -> None:
    kinesis = on_demand()
    commit(kinesis)
    kinesis.change("UpdateStreamWarmThroughput", WarmThroughputMiBps=10_240)
    page = kinesis("ListShards", ShardFilter={"Type": "AT_LATEST"})
    sizes = [len(page["Shards"])]
    while "NextToken" in page:
        page = kinesis("ListShards", NextToken=page["NextToken"])
        sizes.append(len(page["Shards"]))
    assert sizes == [1000] * 10 + [240]
    assert warm(kinesis) == {"TargetMiBps": 10_240, "CurrentMiBps": 10_240}


def test_warm_throughput_is_refused_where_aws_refuses_it() -> None:
    kinesis = on_demand()
    wanted = {"StreamModeDetails": ON_DEMAND, "WarmThroughputMiBps": 9}
    calls: tuple[tuple[str, dict[str, Any]], ...] = (
        ("UpdateStreamWarmThroughput", {"WarmThroughputMiBps": 9}),
        ("CreateStream", {"StreamName": "t", **wanted}),
        ("UpdateStreamMode", {"StreamARN": ARN, **wanted}),
    )
    for operation, body in calls:
        assert kinesis.refused(operation, **body) == UNSUPPORTED
    commit(kinesis)
    for operation, body in calls:
        assert kinesis.refused(operation, **{**body, "WarmThroughputMiBps": 10_241}) == "LimitExceededException"
    kinesis.change("UpdateStreamMode", StreamARN=ARN, StreamModeDetails={"StreamMode": "PROVISIONED"})
    assert kinesis.refused("UpdateStreamWarmThroughput", WarmThroughputMiBps=9) == UNSUPPORTED
    assert kinesis.refused("CreateStream", StreamName="t", ShardCount=1, WarmThroughputMiBps=9) == UNSUPPORTED


def test_a_commitment_holds_for_a_day() -> None:
    kinesis = Kinesis()
    assert kinesis("DescribeAccountSettings") == {"MinimumThroughputBillingCommitment": {"Status": "DISABLED"}}
    assert commit(kinesis, "DISABLED") == "DISABLED"
    assert commit(kinesis) == "ENABLED"
    kinesis.now_s += 3600
    assert commit(kinesis, "DISABLED") == "ENABLED_UNTIL_EARLIEST_ALLOWED_END"
    assert commit(kinesis) == "ENABLED"
    assert commit(kinesis, "DISABLED") == "ENABLED_UNTIL_EARLIEST_ALLOWED_END"
    kinesis.now_s += 24 * 3600
    shown = kinesis("DescribeAccountSettings")["MinimumThroughputBillingCommitment"]
    assert (shown["Status"], shown["EndedAt"].ms) == ("DISABLED", round((START_S + 1 + 24 * 3600) * 1000))


# -- whatever comes


def values(shape: Shape) -> st.SearchStrategy[Any]:
    """Values that the shape accepts, and others."""
    strange: st.SearchStrategy[Any] = st.sampled_from(
        [None, True, 0, -1, 2**63, 2**70, 1.5, float("inf"), float("nan"), "", "s", "٣", "\ud800", ARN, b"", [], {}]
    )
    return strange | fitting(shape)


def fitting(shape: Shape) -> st.SearchStrategy[Any]:
    if isinstance(shape, Struct):
        return st.fixed_dictionaries({}, optional={name: values(member) for name, member in shape.members.items()})
    if isinstance(shape, ListOf):
        return st.lists(values(shape.member), max_size=3)
    if isinstance(shape, MapOf):
        return st.dictionaries(st.sampled_from(["k", "", "aws:k", "€"]), values(shape.value), max_size=2)
    if isinstance(shape, Number):
        return st.integers(shape.least, shape.least + 9)
    if isinstance(shape, Text):
        named = ["s", "shardId-000000000000", "0", str(2**127), str(HASH_KEYS), ARN, f"{ARN}/consumer/c:1"]
        return st.sampled_from([*shape.among, *named])
    return {Flag: st.booleans(), Blob: st.sampled_from([b"", b"x"])}[type(shape)]


def perform_any(engine: Engine, operation: str, body: dict[str, Any], now_ms: int) -> None:
    if operation == SUBSCRIBE:
        subscribe(engine, body, now_ms)
    else:
        perform(engine, operation, body, now_ms)


@given(st.data())
def test_any_request_is_answered_or_refused(data: st.DataObject) -> None:
    engine = Engine("us-east-1")
    for at in range(3):
        operation = "CreateStream" if at == 0 else data.draw(st.sampled_from(sorted(OPERATIONS)))
        body = data.draw(values(OPERATIONS[operation]))
        with contextlib.suppress(KinesisError):
            perform_any(engine, operation, body, round(START_S * 1000) + 1000 * at)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.sampled_from(sorted(OPERATIONS)),
    st.sampled_from((JSON, CBOR)),
    st.binary(max_size=40) | JUNK.map(cbor2.dumps) | st.sampled_from([b"[" * 5000, b"\x81" * 5000, b'{"a":' * 5000]),
)
def test_any_bytes_are_read_or_refused(operation: str, codec: Codec, body: bytes) -> None:
    with contextlib.suppress(KinesisError):
        perform_any(Engine("us-east-1"), operation, codec.decode(operation, body), round(START_S * 1000))


# -- what is there, and what is not


@pytest.mark.parametrize("member", ["StreamName", "StreamARN", "ShardFilter", "Tags", "Unknown"])
def test_a_body_that_nests_without_end_is_read_or_refused(member: str) -> None:
    deep = '{"a":' * 1000 + "1" + "}" * 1000
    request = JSON.decode("CreateStream", f'{{"{member}": {deep}}}'.encode())
    assert stream_of(request) == ""
    with contextlib.suppress(KinesisError):
        Kinesis()("ListStreams", **request)
    with pytest.raises(KinesisError, match="CBOR"):
        CBOR.decode("ListStreams", cbor2.dumps({member: 0})[:-1] + b"\xa1\x61a" * 1000 + b"\x01")


def test_a_cbor_body_that_contains_itself_is_refused() -> None:
    for body in (b"\xa1\x61M\xd8\x1c\xa1\x61a\xd8\x1d\x00", b"\xd8\x1c\xa1\x61a\xd8\x1d\x00"):
        with pytest.raises(KinesisError, match="semantic tag") as refused:
            CBOR.decode("ListStreams", body)
        assert refused.value.code == "SerializationException"


def test_every_operation_of_aws_is_there_or_listed_as_missing() -> None:
    model = botocore.session.Session(profile=None).get_service_model("kinesis")
    before, _, after = Path("docs/local-aws.md").read_text().partition("## What is not supported")
    parts = (before, after.partition("\n## ")[0])
    there, missing = ({*re.findall(r"\w+", part)} & {*model.operation_names} for part in parts)
    assert there == OPERATIONS.keys() == {*HANDLERS, SUBSCRIBE}
    assert missing == {*model.operation_names} - there
