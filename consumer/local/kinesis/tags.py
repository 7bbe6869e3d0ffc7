"""Tags of streams and of consumers."""

from __future__ import annotations

from typing import Any

from consumer.local.kinesis.consumers import find_consumer
from consumer.local.kinesis.engine import Engine
from consumer.local.kinesis.limits import TAGS_PER_STREAM
from consumer.local.kinesis.tag_rules import require_characters, require_tags


def add_tags_to_stream(engine: Engine, request: dict[str, Any], now_ms: int) -> None:
    """AddTagsToStream. A tag with an existing key replaces it."""
    stream = engine.find(request)
    stream.tags = require_tags(stream.tags, request["Tags"], stream.place)


def remove_tags_from_stream(engine: Engine, request: dict[str, Any], now_ms: int) -> None:
    """RemoveTagsFromStream. Keys that are not set are ignored."""
    stream = engine.find(request)
    require_characters(request["TagKeys"], f"remove tags from {stream.place}")
    for key in request["TagKeys"]:
        stream.tags.pop(key, None)


def list_tags_for_stream(engine: Engine, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """ListTagsForStream, sorted by key."""
    tags = engine.find(request).tags
    page = request.get("Limit", TAGS_PER_STREAM)
    keys = sorted(key for key in tags if key > request.get("ExclusiveStartTagKey", ""))
    return {"Tags": [{"Key": key, "Value": tags[key]} for key in keys[:page]], "HasMoreTags": len(keys) > page}


def tag_resource(engine: Engine, request: dict[str, Any], now_ms: int) -> None:
    """TagResource, for a stream or a consumer."""
    tags = _tags(engine, request["ResourceARN"])
    tags.update(require_tags(tags, request["Tags"], request["ResourceARN"]))


def untag_resource(engine: Engine, request: dict[str, Any], now_ms: int) -> None:
    """UntagResource, for a stream or a consumer. Keys that are not set are ignored."""
    tags = _tags(engine, request["ResourceARN"])
    require_characters(request["TagKeys"], f"remove tags from {request['ResourceARN']}")
    for key in request["TagKeys"]:
        tags.pop(key, None)


def list_tags_for_resource(engine: Engine, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """ListTagsForResource, for a stream or a consumer, sorted by key."""
    tags = _tags(engine, request["ResourceARN"])
    return {"Tags": [{"Key": key, "Value": tags[key]} for key in sorted(tags)]}


def _tags(engine: Engine, arn: str) -> dict[str, str]:
    if "/consumer/" in arn:
        return find_consumer(engine, {"ConsumerARN": arn})[1].tags
    return engine.find({"StreamARN": arn}).tags
