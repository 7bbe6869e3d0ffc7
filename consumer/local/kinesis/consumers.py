"""Registered consumers of enhanced fan-out. :mod:`consumer.local.kinesis.subscriptions` has SubscribeToShard."""

from __future__ import annotations

from typing import Any

from consumer.local.kinesis.engine import Engine
from consumer.local.kinesis.errors import in_use, invalid, limit_exceeded, not_found
from consumer.local.kinesis.limits import CONSUMERS_CREATING, CONSUMERS_PER_STREAM
from consumer.local.kinesis.stream import Consumer, Stream
from consumer.local.kinesis.tag_rules import require_tags
from consumer.local.kinesis.tokens import next_token, parse_next_token

PAGE = 100


def register(engine: Engine, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """RegisterStreamConsumer. The consumer is CREATING for ``engine.change_ms``, then ACTIVE."""
    stream = engine.find(request)
    stream.require_made()
    name = request["ConsumerName"]
    if name in stream.consumers:
        raise in_use(f"Consumer {name} under {stream.place} already exists.")
    creating = sum(consumer.status(now_ms) == "CREATING" for consumer in stream.consumers.values())
    if len(stream.consumers) >= CONSUMERS_PER_STREAM or creating >= CONSUMERS_CREATING:
        raise limit_exceeded(f"Consumer {name} would exceed the limit of consumers of {stream.place}.")
    arn = f"{stream.arn}/consumer/{name}:{now_ms // 1000}"
    consumer = Consumer(name, arn, now_ms, now_ms + engine.change_ms)
    consumer.tags = require_tags({}, request.get("Tags", {}), arn)
    stream.consumers[name] = consumer
    return {"Consumer": consumer.to_dict(now_ms)}


def describe(engine: Engine, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """DescribeStreamConsumer."""
    stream, consumer = find_consumer(engine, request)
    return {"ConsumerDescription": {**consumer.to_dict(now_ms), "StreamARN": stream.arn}}


def list_all(engine: Engine, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """ListStreamConsumers, sorted by name."""
    stream = engine.find(request)
    after = ""
    if request.get("NextToken") is not None:
        [after] = parse_next_token("consumers", request["NextToken"], now_ms)
    page = min(request.get("MaxResults", PAGE), PAGE)
    names = sorted(name for name in stream.consumers if name > after)
    answer: dict[str, Any] = {"Consumers": [stream.consumers[name].to_dict(now_ms) for name in names[:page]]}
    if len(names) > page:
        answer["NextToken"] = next_token("consumers", now_ms, names[page - 1])
    return answer


def deregister(engine: Engine, request: dict[str, Any], now_ms: int) -> None:
    """DeregisterStreamConsumer. The consumer is DELETING for ``engine.change_ms``, then gone."""
    _, consumer = find_consumer(engine, request)
    consumer.gone_ms = now_ms + engine.change_ms


def find_consumer(engine: Engine, request: dict[str, Any]) -> tuple[Stream, Consumer]:
    """Return the stream and the consumer that a request names by ``ConsumerARN``, or by ``StreamARN`` and
    ``ConsumerName``.

    :raises KinesisError: ``ResourceNotFoundException`` if there is none.
    """
    arn, name = request.get("ConsumerARN"), request.get("ConsumerName")
    stream_arn = request.get("StreamARN") or (arn or "").partition("/consumer/")[0]
    if not stream_arn or not (arn or name):
        raise invalid("Either ConsumerARN or both StreamARN and ConsumerName must be given.")
    stream = engine.find({"StreamARN": stream_arn})
    for consumer in stream.consumers.values():
        if consumer.arn == arn or (arn is None and consumer.name == name):
            return stream, consumer
    raise not_found(f"Consumer {arn or name} of {stream.place} not found.")
