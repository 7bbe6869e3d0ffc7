"""Operations that list, split and merge shards."""

from __future__ import annotations

from typing import Any

from consumer.local.account import Account, Answer, open_page, page_token
from consumer.local.errors import invalid, validation
from consumer.local.params import Params
from consumer.local.shards import HASH_KEYS, Shard
from consumer.local.streams import Stream

FILTERS = ("AFTER_SHARD_ID", "AT_TRIM_HORIZON", "FROM_TRIM_HORIZON", "AT_LATEST", "AT_TIMESTAMP", "FROM_TIMESTAMP")


def list_shards(account: Account, p: Params, now_s: float) -> Answer:
    limit = p.integer("MaxResults", 1, 10_000, 1000)
    stream, chosen, after = _listing(account, p, now_s)
    shards = [] if stream.status_at(now_s) == "CREATING" else _filtered(stream, chosen, now_s)
    shards = [shard for shard in shards if shard.shard_id > after]
    page = shards[:limit]
    answer: Answer = {"Shards": [shard.describe() for shard in page]}
    if len(shards) > limit:
        answer["NextToken"] = page_token(now_s, stream=stream.name, filter=chosen, after=page[-1].shard_id)
    return answer


def _listing(account: Account, p: Params, now_s: float) -> tuple[Stream, Answer, str]:
    """The stream, the filter, and the shard after which the page begins; a NextToken carries all three."""
    next_token = p.maybe_text("NextToken")
    if next_token is None:
        chosen = p.group("ShardFilter")
        return account.stream(p), _filter(chosen) if chosen else {}, p.maybe_text("ExclusiveStartShardId") or ""
    if "StreamName" in p or "StreamARN" in p:
        raise invalid("NextToken and StreamName cannot be provided together.")
    page = open_page(next_token, now_s)
    return account.by_name(str(page.get("stream"))), dict(page.get("filter") or {}), str(page.get("after"))


def _filter(chosen: Params) -> Answer:
    kind = chosen.choice("Type", FILTERS)
    if kind == "AFTER_SHARD_ID" and "ShardId" not in chosen:
        raise invalid("ShardId must be provided in ShardFilter of type AFTER_SHARD_ID.")
    if kind.endswith("_TIMESTAMP") and "Timestamp" not in chosen:
        raise invalid(f"Timestamp must be provided in ShardFilter of type {kind}.")
    return {"Type": kind, "ShardId": chosen.maybe_text("ShardId"), "Timestamp": chosen.time_s("Timestamp")}


def _filtered(stream: Stream, chosen: Answer, now_s: float) -> list[Shard]:
    """The shards that a filter leaves. A young stream's horizon is its creation, when its first shards were open."""
    shards = list(stream.shards.values())
    horizon_ms = stream.horizon_ms(now_s)
    kind = chosen.get("Type")
    if kind == "AFTER_SHARD_ID":
        return [shard for shard in shards if shard.shard_id > chosen["ShardId"]]
    if kind == "AT_LATEST":
        return [shard for shard in shards if shard.is_open]
    if kind == "AT_TRIM_HORIZON":
        return [shard for shard in shards if shard.open_at(horizon_ms)]
    if kind == "AT_TIMESTAMP":
        time_ms = max(chosen["Timestamp"] * 1000, horizon_ms)
        return [shard for shard in shards if shard.open_at(time_ms)]
    if kind == "FROM_TIMESTAMP":
        time_ms = max(chosen["Timestamp"] * 1000, horizon_ms)
        return [shard for shard in shards if shard.closed_ms is None or shard.closed_ms >= time_ms]
    return shards


def split_shard(account: Account, p: Params, now_s: float) -> Answer:
    shard_id, text = p.text("ShardToSplit"), p.text("NewStartingHashKey")
    stream = account.idle(p, now_s)
    stream.split(shard_id, hash_key_in("NewStartingHashKey", text), now_s)
    stream.change("UPDATING", now_s)
    return {}


def hash_key_in(field: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and (text == "0" or text[0] != "0") and int(text) < HASH_KEYS):
        raise validation(field, text, "Member must satisfy regular expression pattern: 0|([1-9]\\d{0,38})")
    return int(text)


def merge_shards(account: Account, p: Params, now_s: float) -> Answer:
    shard_id, adjacent_id = p.text("ShardToMerge"), p.text("AdjacentShardToMerge")
    stream = account.idle(p, now_s)
    stream.merge(shard_id, adjacent_id, now_s)
    stream.change("UPDATING", now_s)
    return {}


def update_shard_count(account: Account, p: Params, now_s: float) -> Answer:
    target = p.integer("TargetShardCount", 1, 100_000)
    p.choice("ScalingType", ("UNIFORM_SCALING",))
    stream = account.idle(p, now_s)
    if stream.mode == "ON_DEMAND":
        raise validation("StreamMode", stream.mode, "UpdateShardCount needs a stream in PROVISIONED mode")
    before = len(stream.open_shards)
    if account.limits:
        stream.check_scale(target, now_s)
    stream.scale(target, now_s)
    stream.resharded_s.append(now_s)
    stream.change("UPDATING", now_s)
    return {
        "StreamName": stream.name,
        "StreamARN": stream.arn,
        "CurrentShardCount": before,
        "TargetShardCount": target,
    }


OPERATIONS: dict[str, Any] = {
    "ListShards": list_shards,
    "SplitShard": split_shard,
    "MergeShards": merge_shards,
    "UpdateShardCount": update_shard_count,
}
