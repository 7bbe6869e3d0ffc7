"""Operations on tags and on registered consumers. Enhanced fan-out itself (SubscribeToShard) is not served."""

from __future__ import annotations

from typing import Any

from consumer.local.account import Account, Answer, open_page, page_token
from consumer.local.errors import in_use, invalid, limit_exceeded, not_found
from consumer.local.params import Params
from consumer.local.streams import ACCOUNT, Consumer, Stream

CONSUMER_QUOTA = 20
TAG_QUOTA = 50


# -- tags


def _add(tags: dict[str, str], added: dict[str, str]) -> Answer:
    if not added:
        raise invalid("Tags must hold at least one tag.")
    if len(tags | added) > TAG_QUOTA:
        raise limit_exceeded(f"A resource has {TAG_QUOTA} tags at most.")
    tags.update(added)
    return {}


def _remove(tags: dict[str, str], keys: list[str]) -> Answer:
    for key in keys:
        tags.pop(key, None)
    return {}


def add_tags(account: Account, p: Params, now_s: float) -> Answer:
    return _add(account.stream(p).tags, p.tags("Tags"))


def remove_tags(account: Account, p: Params, now_s: float) -> Answer:
    return _remove(account.stream(p).tags, p.texts("TagKeys"))


def list_tags(account: Account, p: Params, now_s: float) -> Answer:
    limit = p.integer("Limit", 1, TAG_QUOTA, TAG_QUOTA)
    after = p.maybe_text("ExclusiveStartTagKey") or ""
    tags = sorted((key, value) for key, value in account.stream(p).tags.items() if key > after)
    return {"Tags": [{"Key": key, "Value": value} for key, value in tags[:limit]], "HasMoreTags": len(tags) > limit}


def _tags_of(account: Account, p: Params) -> dict[str, str]:
    """The tags of the stream or consumer that ResourceARN names."""
    arn = p.text("ResourceARN")
    stream = account.by_arn(p, "ResourceARN")
    return _consumer_by_arn(stream, arn).tags if "/consumer/" in arn else stream.tags


def tag_resource(account: Account, p: Params, now_s: float) -> Answer:
    return _add(_tags_of(account, p), p.tags("Tags"))


def untag_resource(account: Account, p: Params, now_s: float) -> Answer:
    return _remove(_tags_of(account, p), p.texts("TagKeys"))


def list_tags_of_resource(account: Account, p: Params, now_s: float) -> Answer:
    return {"Tags": [{"Key": key, "Value": value} for key, value in sorted(_tags_of(account, p).items())]}


# -- consumers


def register(account: Account, p: Params, now_s: float) -> Answer:
    stream, name = account.by_arn(p, "StreamARN"), p.name("ConsumerName")
    if name in stream.consumers:
        raise in_use(f"Consumer {name} of stream {stream.name} under account {ACCOUNT} already exists.")
    if len(stream.consumers) >= CONSUMER_QUOTA:
        raise limit_exceeded(f"A stream has {CONSUMER_QUOTA} consumers at most.")
    consumer = Consumer(name, f"{stream.arn}/consumer/{name}:{int(now_s)}", now_s, p.tags("Tags"))
    stream.consumers[name] = consumer
    return {"Consumer": consumer.describe(now_s)}


def _consumer_by_arn(stream: Stream, arn: str) -> Consumer:
    for consumer in stream.consumers.values():
        if consumer.arn == arn:
            return consumer
    raise not_found(f"Consumer {arn} under account {ACCOUNT} not found.")


def _consumer(account: Account, p: Params) -> tuple[Stream, Consumer]:
    """By ConsumerARN, or by StreamARN and ConsumerName."""
    if "ConsumerARN" in p:
        stream = account.by_arn(p, "ConsumerARN")
        return stream, _consumer_by_arn(stream, p.text("ConsumerARN"))
    if "StreamARN" not in p or "ConsumerName" not in p:
        raise invalid("Either ConsumerARN, or both StreamARN and ConsumerName must be provided.")
    stream, name = account.by_arn(p, "StreamARN"), p.name("ConsumerName")
    if name not in stream.consumers:
        raise not_found(f"Consumer {name} of stream {stream.name} under account {ACCOUNT} not found.")
    return stream, stream.consumers[name]


def describe(account: Account, p: Params, now_s: float) -> Answer:
    stream, consumer = _consumer(account, p)
    return {"ConsumerDescription": {**consumer.describe(now_s), "StreamARN": stream.arn}}


def deregister(account: Account, p: Params, now_s: float) -> Answer:
    stream, consumer = _consumer(account, p)
    del stream.consumers[consumer.name]
    return {}


def list_consumers(account: Account, p: Params, now_s: float) -> Answer:
    limit = p.integer("MaxResults", 1, 10_000, 100)
    stream = account.by_arn(p, "StreamARN")
    next_token = p.maybe_text("NextToken")
    after = "" if next_token is None else str(open_page(next_token, now_s).get("after", ""))
    names = sorted(name for name in stream.consumers if name > after)
    answer: Answer = {"Consumers": [stream.consumers[name].describe(now_s) for name in names[:limit]]}
    if len(names) > limit:
        answer["NextToken"] = page_token(now_s, after=names[limit - 1])
    return answer


OPERATIONS: dict[str, Any] = {
    "AddTagsToStream": add_tags,
    "RemoveTagsFromStream": remove_tags,
    "ListTagsForStream": list_tags,
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
    "ListTagsForResource": list_tags_of_resource,
    "RegisterStreamConsumer": register,
    "DescribeStreamConsumer": describe,
    "DeregisterStreamConsumer": deregister,
    "ListStreamConsumers": list_consumers,
}
