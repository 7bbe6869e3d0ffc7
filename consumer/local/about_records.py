"""Operations that put and read records."""

from __future__ import annotations

from typing import Any

from consumer.local import sequence
from consumer.local.about_shards import hash_key_in
from consumer.local.account import TOKEN_S, Account, Answer, token, untoken
from consumer.local.errors import AwsError, invalid, throttled, validation
from consumer.local.params import Params
from consumer.local.shards import MIB, READ_MAX_RECORDS, Record, Shard
from consumer.local.streams import ACCOUNT, Stream, hash_key

PUT_MAX_RECORDS, PUT_MAX_BYTES = 500, 10 * MIB
ITERATORS = ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER", "TRIM_HORIZON", "LATEST", "AT_TIMESTAMP")


class Put:
    """One checked record on its way into its shard."""

    __slots__ = ("data", "key", "shard", "size")

    def __init__(self, stream: Stream, body: dict[str, Any], field: str = "") -> None:
        p = Params(body)
        self.key, data = p.text("PartitionKey"), body.get("Data")
        if not isinstance(data, bytes):
            raise validation(f"{field}data", None, "Member must not be null")
        if not 1 <= len(self.key) <= 256:
            raise validation(f"{field}partitionKey", self.key, "Member must have length between 1 and 256")
        self.data = data
        self.size = len(data) + len(self.key.encode())
        if self.size > stream.max_record_kib * 1024:
            raise validation(
                f"{field}data",
                f"{self.size} bytes",
                f"Member must have length less than or equal to {stream.max_record_kib * 1024}",
            )
        explicit = p.maybe_text("ExplicitHashKey")
        key = hash_key(self.key) if explicit is None else hash_key_in(f"{field}explicitHashKey", explicit)
        self.shard: Shard = stream.shard_of(key)

    def write(self, account: Account, now_s: float) -> Record | None:
        """The record as written; ``None`` where its shard takes no more this second."""
        if account.limits and not self.shard.rates.may_write(self.size, now_s):
            return None
        return self.shard.put(self.key, self.data, int(now_s * 1000))


def too_fast(stream: Stream, shard: Shard) -> str:
    return f"Rate exceeded for shard {shard.shard_id} in stream {stream.name} under account {ACCOUNT}."


def put_record(account: Account, p: Params, now_s: float) -> Answer:
    stream = account.live(p, now_s)
    put = Put(stream, dict(p.body))
    if (record := put.write(account, now_s)) is None:
        account.meter.write_throttled(stream.name, 1)
        raise throttled(too_fast(stream, put.shard))
    account.meter.incoming(stream.name, 1, put.size)
    return {"ShardId": put.shard.shard_id, "SequenceNumber": record.sequence_number, "EncryptionType": "NONE"}


def put_records(account: Account, p: Params, now_s: float) -> Answer:
    """Every record is checked before any is written; then each is written or refused by itself."""
    stream = account.live(p, now_s)
    bodies = p.groups("Records")
    if not 1 <= len(bodies) <= PUT_MAX_RECORDS:
        raise validation("Records", f"[{len(bodies)}]", f"Member must have length between 1 and {PUT_MAX_RECORDS}")
    puts = [Put(stream, body, f"records.{at}.member.") for at, body in enumerate(bodies, 1)]
    if sum(put.size for put in puts) > PUT_MAX_BYTES:
        raise invalid(f"Records size exceeds {PUT_MAX_BYTES // MIB} MB limit")
    results: list[Answer] = []
    failed = size = 0
    for put in puts:
        if (record := put.write(account, now_s)) is None:
            failed += 1
            message = too_fast(stream, put.shard)
            results.append({"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": message})
            continue
        size += put.size
        results.append({"SequenceNumber": record.sequence_number, "ShardId": put.shard.shard_id})
    account.meter.incoming(stream.name, len(puts) - failed, size)
    if failed:
        account.meter.write_throttled(stream.name, failed)
    return {"FailedRecordCount": failed, "Records": results, "EncryptionType": "NONE"}


# -- iterators


def iterator(stream: Stream, shard: Shard, count: int, now_s: float) -> str:
    return token({"s": stream.name, "c": stream.created_s, "i": shard.shard_id, "n": count, "at": now_s})


def get_shard_iterator(account: Account, p: Params, now_s: float) -> Answer:
    shard_id = p.text("ShardId")
    kind = p.choice("ShardIteratorType", ITERATORS)
    stream = account.live(p, now_s)
    shard = stream.shard(shard_id)
    return {"ShardIterator": iterator(stream, shard, _first_count(stream, shard, kind, p, now_s), now_s)}


def _first_count(stream: Stream, shard: Shard, kind: str, p: Params, now_s: float) -> int:
    """The count of the first record that an iterator of this kind reads."""
    if kind == "TRIM_HORIZON":
        return shard.first_count
    if kind == "LATEST":
        return shard.next_count
    if kind == "AT_TIMESTAMP":
        time_s = p.time_s("Timestamp")
        if time_s is None:
            raise invalid("Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP.")
        if time_s > now_s + 1:
            raise invalid(f"The timestampInMillis parameter cannot be greater than the current time: {time_s}")
        return shard.count_at(time_s * 1000)
    text = p.maybe_text("StartingSequenceNumber")
    if text is None:
        raise invalid(f"Must specify startingSequenceNumber parameter for iterator of type {kind}.")
    parts = sequence.parse(text)
    if parts is None or (parts.shard_index, parts.opened_ms) != (shard.index, shard.opened_ms):
        raise invalid(
            f"StartingSequenceNumber {text} used in GetShardIterator on shard {shard.shard_id} in stream "
            f"{stream.name} under account {ACCOUNT} is invalid because it did not come from this stream."
        )
    return parts.nth + (kind == "AFTER_SEQUENCE_NUMBER")


def _opened(account: Account, text: str, now_s: float) -> tuple[Stream, Shard, int]:
    """What an iterator points at. :raises AwsError: it is none of ours, has expired, or its stream or shard is gone."""
    values = untoken(text)
    if values is None or not {"s", "c", "i", "n", "at"} <= values.keys():
        raise invalid("Invalid ShardIterator.")
    if now_s > values["at"] + TOKEN_S:
        raise AwsError(
            "ExpiredIteratorException",
            "Iterator expired. The iterator was created more than 300 seconds ago. Get a new one.",
        )
    stream = account.by_name(values["s"])
    if stream.created_s != values["c"]:
        raise invalid("Invalid ShardIterator: its stream was deleted.")
    return stream, stream.shard(values["i"]), int(values["n"])


def get_records(account: Account, p: Params, now_s: float) -> Answer:
    limit = p.integer("Limit", 1, READ_MAX_RECORDS, READ_MAX_RECORDS)
    stream, shard, count = _opened(account, p.text("ShardIterator"), now_s)
    if account.limits and not shard.rates.may_read(now_s):
        account.meter.read_throttled(stream.name)
        raise throttled(too_fast(stream, shard))
    now_ms = int(now_s * 1000)
    records = shard.read(count, limit)
    count = max(count, shard.first_count)
    after = count + len(records)
    shard.rates.read_bytes.take(sum(record.size for record in records) if account.limits else 0)
    behind_ms = shard.millis_behind(after, now_ms)
    account.meter.read(stream.name, max(now_ms - records[-1].arrival_ms, 0) if records and behind_ms else behind_ms)
    answer: Answer = {"Records": [_read(record) for record in records], "MillisBehindLatest": behind_ms}
    if shard.is_open or after < shard.next_count:
        answer["NextShardIterator"] = iterator(stream, shard, after, now_s)
    else:
        answer["ChildShards"] = [stream.shard(child).describe_child() for child in shard.children]
    return answer


def _read(record: Record) -> Answer:
    return {
        "SequenceNumber": record.sequence_number,
        "ApproximateArrivalTimestamp": record.arrival_ms / 1000,
        "Data": record.data,
        "PartitionKey": record.partition_key,
    }


OPERATIONS: dict[str, Any] = {
    "PutRecord": put_record,
    "PutRecords": put_records,
    "GetShardIterator": get_shard_iterator,
    "GetRecords": get_records,
}
