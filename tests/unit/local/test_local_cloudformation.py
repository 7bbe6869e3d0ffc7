"""A template's streams are made only by operations of the local Kinesis."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.local.cloudformation import Streams
from consumer.local.kinesis.errors import KinesisError
from consumer.local.stream_properties import KNOWN
from tests.support.local_kinesis import Kinesis


def streams() -> tuple[Streams, Kinesis]:
    """A clock that moves by a second with each operation."""
    kinesis = Kinesis()

    def ask(region: str, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        kinesis.now_s += 1
        return kinesis(operation, **request)

    return Streams(ask, "us-east-1"), kinesis


def told(streams: Streams, name: str) -> dict[str, Any]:
    tags = {tag["Key"]: tag["Value"] for tag in streams("ListTagsForStream", name)["Tags"]}
    summary = streams.summary(name)
    return {
        "shards": summary["OpenShardCount"],
        "mode": summary["StreamModeDetails"]["StreamMode"],
        "hours": summary["RetentionPeriodHours"],
        "kib": summary["MaxRecordSizeInKiB"],
        "metrics": summary["EnhancedMonitoring"][0]["ShardLevelMetrics"],
        "tags": tags,
    }


BARE = {"shards": 4, "mode": "PROVISIONED", "hours": 24, "kib": 1024, "metrics": [], "tags": {}}


def test_a_stream_is_what_its_template_says_from_one_to_the_next() -> None:
    made, kinesis = streams()
    arn = made.create("t", {})
    assert arn.endswith(":stream/t")
    assert told(made, "t") == BARE
    full = {
        "ShardCount": "2",
        "RetentionPeriodHours": 48,
        "MaxRecordSizeInKiB": 2048,
        "DesiredShardLevelMetrics": ["IncomingBytes"],
        "Tags": [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": 2}],
    }
    made.create("u", full)
    whole = {
        "shards": 2,
        "mode": "PROVISIONED",
        "hours": 48,
        "kib": 2048,
        "metrics": ["IncomingBytes"],
        "tags": {"a": "1", "b": "2"},
    }
    assert told(made, "u") == whole
    made.update("t", full)
    assert told(made, "t") == whole
    made.update("t", {"ShardCount": 2, "MaxRecordSizeInKiB": 1024, "Tags": [{"Key": "b", "Value": "3"}]})
    assert told(made, "t") == {**BARE, "shards": 2, "tags": {"b": "3"}}
    made.update("t", {"StreamModeDetails": {"StreamMode": "ON_DEMAND"}})
    assert told(made, "t") == {**BARE, "shards": 2, "mode": "ON_DEMAND"}
    made.delete("t")
    assert kinesis("ListStreams")["StreamNames"] == ["s", "u"]


def test_unsupported_properties_are_refused_and_create_nothing() -> None:
    made, kinesis = streams()
    wrong: tuple[dict[str, Any], ...] = (
        {"StreamEncryption": {"EncryptionType": "KMS", "KeyId": "k"}},
        {"ShardCount": "many"},
        {"ShardCount": 0},
        {"ShardCount": 2.5},
        {"ShardCount": True},
        {"ShardCount": "٣"},
        {"Tags": {"a": "b"}},
        {"Tags": [{"Key": "a"}]},
        {"Tags": ["a"]},
        {"DesiredShardLevelMetrics": "IncomingBytes"},
        {"Tags": [{"Key": "a;b", "Value": ""}]},
        {"ShardCount": 1, "RetentionPeriodHours": 1},
    )
    for properties in wrong:
        with pytest.raises(KinesisError):
            made.create("t", properties)
    assert kinesis("ListStreams")["StreamNames"] == ["s"]


STRANGE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(("Key", "Value", "a")), inner, max_size=2)
    ),
    max_leaves=3,
)


@given(st.sampled_from(sorted(KNOWN)), STRANGE)
def test_a_property_of_any_form_is_accepted_or_refused(name: str, value: object) -> None:
    """Anything else would be a failure of the server."""
    made, kinesis = streams()
    for change in (lambda: made.create("t", {name: value}), lambda: made.update("s", {name: value})):
        with contextlib.suppress(KinesisError):
            change()
    assert kinesis("DescribeStreamSummary")


def test_a_refusal_names_the_property_and_its_value() -> None:
    made, _ = streams()
    for name, value, says in (
        ("ShardCount", "abc", 'ShardCount must be a whole number; it is "abc".'),
        ("ShardCount", 2.5, "ShardCount must be a whole number; it is 2.5."),
        ("RetentionPeriodHours", None, "RetentionPeriodHours must be a whole number; it is null."),
    ):
        with pytest.raises(KinesisError) as refused:
            made.create("t", {name: value})
        assert refused.value.message == says


def test_a_stream_that_is_gone_is_deleted() -> None:
    made, _ = streams()
    made.delete("never-made")
