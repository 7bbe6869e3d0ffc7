"""SubscribeToShard: the events of a subscription, their times, and their framing."""

from __future__ import annotations

from typing import Any

import cbor2
import orjson
import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from consumer.local.codecs import CBOR, JSON
from consumer.local.event_stream import event, exception, message
from consumer.local.kinesis.errors import KinesisError
from consumer.local.kinesis.operations import subscribe
from consumer.local.kinesis.subscriptions import AGAIN_MS, HEARTBEAT_MS, LIFE_MS, Subscription
from tests.support.local_kinesis import HASH_KEYS, Kinesis

ARN = "arn:aws:kinesis:us-east-1:123456789012:stream/s"
FIRST = "shardId-000000000000"
IN_USE, NOT_FOUND = "ResourceInUseException", "ResourceNotFoundException"


class FanOut(Kinesis):
    """A stream with a registered consumer ``c``."""

    def __init__(self, shards: int = 1, limits: bool = False) -> None:
        super().__init__(shards, limits)
        registered = self("RegisterStreamConsumer", StreamARN=ARN, ConsumerName="c")
        self.consumer = registered["Consumer"]["ConsumerARN"]
        self.now_s += 1

    @property
    def now_ms(self) -> int:
        return round(self.now_s * 1000)

    def subscribe(self, kind: str = "TRIM_HORIZON", shard: str = FIRST, **more: Any) -> Subscription:
        asked = {"ConsumerARN": self.consumer, "ShardId": shard, "StartingPosition": {"Type": kind, **more}}
        return subscribe(self.engine, asked, self.now_ms)

    def not_subscribed(self, kind: str = "TRIM_HORIZON", **more: Any) -> str:
        with pytest.raises(KinesisError) as refused:
            self.subscribe(kind, **more)
        return refused.value.code

    def told(self, subscription: Subscription) -> list[bytes] | None:
        """The data of the next event."""
        found = subscription.next_event(self.now_ms)
        return found if found is None else [record["Data"] for record in found["Records"]]

    def ended(self, subscription: Subscription) -> str:
        with pytest.raises(KinesisError) as ended:
            subscription.next_event(self.now_ms)
        assert subscription.is_over
        assert subscription.next_event(self.now_ms) is None
        return ended.value.code


def test_a_subscription_sends_stored_records_and_then_new_ones() -> None:
    kinesis = FanOut()
    put = kinesis.put(b"a")
    subscription = kinesis.subscribe()
    first = subscription.next_event(kinesis.now_ms)
    assert first is not None
    assert [record["Data"] for record in first["Records"]] == [b"a"]
    assert (first["ContinuationSequenceNumber"], first["MillisBehindLatest"]) == (put["SequenceNumber"], 0)
    assert kinesis.told(subscription) is None
    kinesis.put(b"b")
    assert kinesis.told(subscription) == [b"b"]


def test_an_idle_shard_is_heard_of_and_nothing_is_lost_behind_what_it_said() -> None:
    kinesis = FanOut(limits=True)
    latest = kinesis.subscribe("LATEST")
    first = latest.next_event(kinesis.now_ms)
    assert first is not None
    assert first["Records"] == []
    kinesis.now_s += (HEARTBEAT_MS - 1) / 1000
    assert latest.next_event(kinesis.now_ms) is None
    kinesis.now_s += 0.001
    second = latest.next_event(kinesis.now_ms)
    assert second is not None
    assert second["ContinuationSequenceNumber"] > first["ContinuationSequenceNumber"]
    kinesis.put(b"a")
    kinesis.now_s += AGAIN_MS / 1000
    for kind in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
        again = kinesis.subscribe(kind, SequenceNumber=second["ContinuationSequenceNumber"])
        assert kinesis.told(again) == [b"a"]
        kinesis.now_s += AGAIN_MS / 1000


def test_behind_the_last_record_come_the_children_and_the_end() -> None:
    kinesis = FanOut()
    subscription = kinesis.subscribe()
    kinesis.put(b"a")
    kinesis.change("SplitShard", ShardToSplit=FIRST, NewStartingHashKey=str(HASH_KEYS // 2))
    last = subscription.next_event(kinesis.now_ms)
    assert last is not None
    assert [record["Data"] for record in last["Records"]] == [b"a"]
    assert [child["ShardId"][-1] for child in last["ChildShards"]] == ["1", "2"]
    assert "ContinuationSequenceNumber" not in last
    assert subscription.is_over
    assert subscription.next_event(kinesis.now_ms) is None
    late = kinesis.subscribe("LATEST").next_event(kinesis.now_ms)
    assert late is not None
    assert (late["Records"], len(late["ChildShards"])) == ([], 2)


class Follower:
    """Subscribes to children where their parents end, and again after the last event."""

    def __init__(self, kinesis: FanOut) -> None:
        self.kinesis = kinesis
        self.heard: list[bytes] = []
        self._held = {FIRST: kinesis.subscribe()}
        self._continued: dict[str, str] = {}

    def look(self) -> None:
        waiting = list(self._held)
        while waiting:
            shard = waiting.pop()
            while shard in self._held and (found := self._held[shard].next_event(self.kinesis.now_ms)):
                waiting += self._hear(shard, found)

    def _hear(self, shard: str, found: dict[str, Any]) -> list[str]:
        self.heard += [record["Data"] for record in found["Records"]]
        if "ChildShards" not in found:
            self._continued[shard] = found["ContinuationSequenceNumber"]
            return []
        del self._held[shard]
        self._continued.pop(shard, None)
        children = [child["ShardId"] for child in found["ChildShards"]]
        self._held |= {child: self.kinesis.subscribe(shard=child) for child in children}
        return children

    def again(self) -> None:
        for shard, number in self._continued.items():
            self._held[shard] = self.kinesis.subscribe("AFTER_SEQUENCE_NUMBER", shard, SequenceNumber=number)


@given(st.lists(st.sampled_from(["put", "split", "look", "again", "wait"]), max_size=25))
def test_following_continuations_and_children_gives_all_records_once_and_in_order(steps: list[str]) -> None:
    kinesis, put = FanOut(), list[bytes]()
    follower = Follower(kinesis)
    for step in [*steps, "look"]:
        match step:
            case "put":
                put.append(b"%d" % len(put))
                kinesis.put(put[-1])
            case "split":
                wide = kinesis.open()[-1]
                keys = [int(wide["HashKeyRange"][name]) for name in ("StartingHashKey", "EndingHashKey")]
                kinesis.change("SplitShard", ShardToSplit=wide["ShardId"], NewStartingHashKey=str(sum(keys) // 2))
            case "wait":
                kinesis.now_s += 2
            case "look":
                follower.look()
            case "again":
                follower.again()
    assert follower.heard == put


def test_a_subscription_lives_for_five_minutes() -> None:
    kinesis = FanOut()
    subscription = kinesis.subscribe()
    kinesis.now_s += LIFE_MS / 1000 - 1
    assert kinesis.told(subscription) == []
    kinesis.put()
    kinesis.now_s += 1
    assert kinesis.told(subscription) is None
    assert subscription.is_over


def test_a_second_subscription_is_refused_for_five_seconds_and_then_takes_over() -> None:
    kinesis = FanOut(2, limits=True)
    first = kinesis.subscribe()
    assert kinesis.not_subscribed() == IN_USE
    assert kinesis.subscribe(shard="shardId-000000000001")
    kinesis.now_s += AGAIN_MS / 1000 - 0.001
    assert kinesis.not_subscribed() == IN_USE
    assert kinesis.told(first) == []
    kinesis.now_s += 0.001
    second = kinesis.subscribe()
    assert kinesis.ended(first) == IN_USE
    assert kinesis.told(second) == []


def test_without_limits_the_next_subscription_takes_over_at_once() -> None:
    kinesis = FanOut()
    first, second = kinesis.subscribe(), kinesis.subscribe()
    assert kinesis.ended(first) == IN_USE
    assert kinesis.told(second) == []


def test_invalid_requests_are_not_subscriptions() -> None:
    kinesis = FanOut()
    number = kinesis.put()["SequenceNumber"]
    assert kinesis.not_subscribed(shard="shardId-000000000009") == NOT_FOUND
    assert kinesis.not_subscribed("AFTER_SEQUENCE_NUMBER") == "InvalidArgumentException"
    assert kinesis.not_subscribed("LATEST", SequenceNumber=number) == "InvalidArgumentException"
    assert kinesis.not_subscribed("NOWHERE") == "ValidationException"
    late = kinesis("RegisterStreamConsumer", StreamARN=ARN, ConsumerName="d")["Consumer"]["ConsumerARN"]
    kinesis.consumer, known = late, kinesis.consumer
    assert kinesis.not_subscribed() == IN_USE
    kinesis.consumer = known + "0"
    assert kinesis.not_subscribed() == NOT_FOUND


def test_a_subscription_ends_with_its_consumer_its_stream_or_its_shard() -> None:
    for operation, body in (
        ("DeregisterStreamConsumer", {"StreamARN": ARN, "ConsumerName": "c"}),
        ("DeleteStream", {"EnforceConsumerDeletion": True}),
    ):
        kinesis = FanOut()
        subscription = kinesis.subscribe()
        kinesis.change(operation, **body)
        assert kinesis.ended(subscription) == NOT_FOUND


def test_with_limits_a_shard_gives_each_consumer_2_mib_a_second() -> None:
    kinesis = FanOut(limits=True)
    for _ in range(8):
        kinesis.put(b"x" * 700_000)
        kinesis.now_s += 1
    subscription = kinesis.subscribe()
    told: list[bytes] = []
    while (found := kinesis.told(subscription)) is not None:
        told += found
    assert 3 <= len(told) <= 4
    kinesis.now_s += 3
    assert kinesis.told(subscription) == [b"x" * 700_000]


# -- framing


@pytest.mark.parametrize(("codec", "loads"), [(JSON, orjson.loads), (CBOR, cbor2.loads)])
def test_an_event_is_framed_as_the_sdks_read_it(codec: Any, loads: Any) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(event("SubscribeToShardEvent", {"Records": []}, codec))
    buffer.add_data(exception(KinesisError(IN_USE, "taken"), codec))
    told, failed = list(buffer)
    kind = codec.content_type.decode()
    assert told.to_response_dict()["headers"] == {
        ":message-type": "event",
        ":event-type": "SubscribeToShardEvent",
        ":content-type": kind,
    }
    assert loads(told.payload) == {"Records": []}
    assert failed.to_response_dict()["headers"] == {
        ":message-type": "exception",
        ":exception-type": IN_USE,
        ":content-type": kind,
    }
    assert loads(failed.payload) == {"message": "taken"}


@given(st.dictionaries(st.text("abc-", min_size=1), st.text(max_size=9), max_size=4), st.binary())
def test_any_frame_is_read_back(headers: dict[str, str], payload: bytes) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(message(headers, payload))
    (found,) = buffer
    assert found.to_response_dict() == {"status_code": 200, "headers": headers, "body": payload}
