"""PutRecord and PutRecords."""

from __future__ import annotations

from collections import Counter
from typing import Any

from consumer.local.kinesis import sequence
from consumer.local.kinesis.engine import Engine
from consumer.local.kinesis.errors import KinesisError, invalid, throttled
from consumer.local.kinesis.hash_ranges import SPACE, hash_of
from consumer.local.kinesis.limits import PUT_RECORDS_MAX_BYTES
from consumer.local.kinesis.shard import LocalShard
from consumer.local.kinesis.stream import BY_KEY, Stream

THROTTLED = "ProvisionedThroughputExceededException"


def put_record(engine: Engine, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """PutRecord.

    :raises KinesisError: if the record is too large or invalid, or the shard is throttled.
    """
    stream = _writable(engine, request)
    _check_ordering(stream, request.get("SequenceNumberForOrdering"))
    shard = _shard_of(stream, request)
    size = _size(stream, request)
    dry_run(request)
    if engine.limits and not shard.limits.write(size, now_ms):
        _count_throttled(engine, stream, shard, 1, now_ms)
        raise throttled(_rate_exceeded(stream, shard))
    number = shard.append(request["Data"], request.get("PartitionKey"), now_ms)
    _count_written(engine, stream, Counter({shard: size}), Counter({shard: 1}), now_ms)
    return {"ShardId": shard.shard_id, "SequenceNumber": number}


def put_records(engine: Engine, request: dict[str, Any], now_ms: int) -> dict[str, Any]:
    """PutRecords. Records whose shard is throttled are refused one by one; the others are stored.

    :raises KinesisError: if a record is invalid or the request is too large; then nothing is stored.
    """
    stream = _writable(engine, request)
    records = request["Records"]
    sizes = [_size(stream, record) for record in records]
    if sum(sizes) > PUT_RECORDS_MAX_BYTES:
        raise invalid(f"Records size exceeds {PUT_RECORDS_MAX_BYTES} bytes")
    routes = [_shard_of(stream, record) for record in records]
    dry_run(request)
    written: Counter[LocalShard] = Counter()
    bytes_written: Counter[LocalShard] = Counter()
    refused: Counter[LocalShard] = Counter()
    answers = []
    for record, shard, size in zip(records, routes, sizes, strict=True):
        if engine.limits and not shard.limits.write(size, now_ms):
            refused[shard] += 1
            answers.append({"ErrorCode": THROTTLED, "ErrorMessage": _rate_exceeded(stream, shard)})
            continue
        number = shard.append(record["Data"], record.get("PartitionKey"), now_ms)
        written[shard] += 1
        bytes_written[shard] += size
        answers.append({"SequenceNumber": number, "ShardId": shard.shard_id})
    _count_written(engine, stream, bytes_written, written, now_ms)
    for shard, count in refused.items():
        _count_throttled(engine, stream, shard, count, now_ms)
    return {"FailedRecordCount": refused.total(), "Records": answers}


def dry_run(request: dict[str, Any]) -> None:
    """Stop a request with ``DryRun`` that would have succeeded.

    :raises KinesisError: ``DryRunOperationException`` if ``DryRun`` is set.
    """
    if request.get("DryRun"):
        raise KinesisError("DryRunOperationException", "Request would have succeeded, but DryRun flag is set.")


def _writable(engine: Engine, request: dict[str, Any]) -> Stream:
    stream = engine.find(request)
    stream.require_made()
    return stream


def _shard_of(stream: Stream, record: dict[str, Any]) -> LocalShard:
    if stream.distribution != BY_KEY:
        return stream.next_in_turn()
    return stream.route(_hash_key(record, stream))


def _hash_key(record: dict[str, Any], stream: Stream) -> int:
    explicit, key = record.get("ExplicitHashKey"), record.get("PartitionKey")
    if key is None:
        raise invalid(f"PartitionKey must be given for {stream.place}, which distributes records by it.")
    if explicit is None:
        return hash_of(key)
    if int(explicit) >= SPACE:
        raise invalid(
            "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. "
            f"Specified value was {explicit}"
        )
    return int(explicit)


def _check_ordering(stream: Stream, number: str | None) -> None:
    """Check SequenceNumberForOrdering. Its promise always holds, because sequence numbers only increase."""
    if number is None:
        return
    if stream.distribution != BY_KEY:
        raise invalid(f"SequenceNumberForOrdering is not supported for {stream.place} with the distribution AUTO.")
    try:
        sequence.parse(number)
    except ValueError:
        raise invalid(f"ExclusiveMinimumSequenceNumber {number} used in PutRecord is invalid.") from None


def _size(stream: Stream, record: dict[str, Any]) -> int:
    key = record.get("PartitionKey") or ""
    size: int = len(record["Data"]) + (len(key) if key.isascii() else len(key.encode("utf-8", "surrogatepass")))
    if size > stream.max_record_kib * 1024:
        raise KinesisError(
            "ValidationException",
            f"1 validation error detected: Value of {size} bytes at 'data' failed to satisfy constraint: "
            f"Member must have length less than or equal to {stream.max_record_kib * 1024}",
        )
    return size


def _rate_exceeded(stream: Stream, shard: LocalShard) -> str:
    return f"Rate exceeded for shard {shard.shard_id} in {stream.place}."


def _count_written(
    engine: Engine, stream: Stream, sizes: Counter[LocalShard], records: Counter[LocalShard], now_ms: int
) -> None:
    for shard, count in records.items():
        shard_id = shard.shard_id
        engine.count(stream, shard_id, "IncomingRecords", count, now_ms, "IncomingRecords")
        engine.count(stream, shard_id, "IncomingBytes", sizes[shard], now_ms, "IncomingBytes")


def _count_throttled(engine: Engine, stream: Stream, shard: LocalShard, count: int, now_ms: int) -> None:
    name = "WriteProvisionedThroughputExceeded"
    engine.count(stream, shard.shard_id, name, count, now_ms, name)
