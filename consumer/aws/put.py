"""Puts many records on a stream: in the order of each key, at a rate, until each is accepted.

Kinesis keeps no order within a call, and may refuse an earlier record of a call but accept a later one (API
reference, PutRecords). So a call holds one record of each key, as :class:`~pipeline.sinks.put_queue.OrderedPutQueue`
hands them out; a refused record holds back the later records of its key only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.errors import Fatal, counted
from pipeline.record import Position
from pipeline.sinks.put_queue import OrderedPutQueue, QueuedRow

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

Sleep = Callable[[float], object]

KEY_CHARACTERS = 256
"""The longest partition key (API reference, PutRecords)."""

RECORD_KIB = 1024
"""The default limit of a stream for data and key of one record."""

WAITING = 5_000
"""Maximum number of records held in memory while their keys wait, unless fewer reach ``WAITING_BYTES``."""

WAITING_BYTES = 16 * 1024 * 1024

FIRST_DELAY_S, LAST_DELAY_S = 0.1, 5.0
GIVE_UP_AFTER_S = 120.0
"""Seconds without an accepted record after which putting fails."""

SHOWN = 20
"""Maximum number of refused records that a report names; it counts all."""


@dataclass(frozen=True, slots=True)
class PutEntry:
    """One record to put. Entries with the same ``order`` arrive in the order in which they are given.

    ``users``: the records in it, more than 1 for an aggregate. ``source`` says where it comes from, for the report.
    """

    data: bytes
    partition_key: str
    order: str = ""
    explicit_hash_key: str | None = None
    users: int = 1
    source: str = ""


@dataclass(slots=True)
class PutReport:
    """The result. ``unfit``: records that no stream accepts, which were left out."""

    records: int = 0
    bytes: int = 0
    calls: int = 0
    retried: int = 0
    took_s: float = 0.0
    shards: dict[str, int] = field(default_factory=dict)
    unfit: int = 0
    unfit_shown: list[str] = field(default_factory=list)


def largest_record_bytes(kinesis: KinesisClient, stream: str) -> int:
    """The stream's own limit for data and key of one record."""
    summary: Any = kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]
    return 1024 * int(summary.get("MaxRecordSizeInKiB", RECORD_KIB))


def put_all(
    kinesis: KinesisClient,
    stream: str,
    entries: Iterable[PutEntry],
    *,
    rate: float | None = None,
    largest_bytes: int = 1024 * RECORD_KIB,
    tell: Callable[[int], object] = lambda records: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Sleep = time.sleep,
) -> PutReport:
    """Put every entry that a stream can accept; return once each is accepted.

    :param rate: maximum records per second; each user record of an aggregate counts.
    :param tell: called with the number of records that each call has put.
    :raises Fatal: no record was accepted for ``GIVE_UP_AFTER_S``. Raises botocore's errors that waiting cannot fix,
        such as a stream that does not exist.
    """
    work = _Put(kinesis, stream, rate, clock, sleep)
    for entry in entries:
        if reason := _unfit(entry, largest_bytes):
            work.report.unfit += entry.users
            if len(work.report.unfit_shown) < SHOWN:
                work.report.unfit_shown.append(f"{entry.source or 'a record'}: {reason}")
            continue
        work.add(entry)
        while work.is_full():
            tell(work.call())
    while work.waiting:
        tell(work.call())
    work.report.took_s = clock() - work.began_s
    return work.report


class _Put:
    """The state between two calls."""

    def __init__(
        self, kinesis: KinesisClient, stream: str, rate: float | None, clock: Callable[[], float], sleep: Sleep
    ) -> None:
        self.report = PutReport()
        self.began_s = clock()
        self._kinesis = kinesis
        self._stream = stream
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._queue = OrderedPutQueue()
        self._position = 0
        self._free_s = self._accepted_s = self.began_s
        self._fruitless = 0

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def is_full(self) -> bool:
        return self.waiting >= WAITING or self._queue.bytes >= WAITING_BYTES

    def add(self, entry: PutEntry) -> None:
        order = entry.order or entry.partition_key
        self._position += 1
        self._queue.put(Position(self._position, 0), (order, entry.data), origin=entry)

    def call(self) -> int:
        """Make one call; return how many user records it put."""
        most = 500 if self._rate is None else max(1, min(500, int(self._rate)))
        request = self._queue.take(most)
        self._wait_for_rate(request)
        answer: Any = self._answer(request)
        accepted = ["SequenceNumber" in each for each in answer["Records"]]
        self._queue.settle(request, accepted)
        self.report.calls += 1
        self.report.retried += accepted.count(False)
        put = self._count(request, answer["Records"])
        self._back_off(answer["Records"], accepted)
        return put

    def _answer(self, request: list[QueuedRow]) -> Any:
        from botocore.exceptions import ClientError

        try:
            return self._kinesis.put_records(StreamName=self._stream, Records=[_wire(row.origin) for row in request])
        except ClientError as error:
            if error.response["Error"]["Code"] not in _PASSING:
                raise
            return {"Records": [{"ErrorCode": error.response["Error"]["Code"]} for _ in request]}

    def _count(self, request: list[QueuedRow], answers: list[Any]) -> int:
        put = 0
        for row, answer in zip(request, answers, strict=True):
            if "SequenceNumber" in answer:
                put += row.origin.users
                self.report.bytes += len(row.data)
                shard_id = answer["ShardId"]
                self.report.shards[shard_id] = self.report.shards.get(shard_id, 0) + row.origin.users
        self.report.records += put
        return put

    def _wait_for_rate(self, request: list[QueuedRow]) -> None:
        if self._rate is None:
            return
        now = self._clock()
        if self._free_s > now:
            self._sleep(self._free_s - now)
        self._free_s = max(self._free_s, now) + sum(row.origin.users for row in request) / self._rate

    def _back_off(self, answers: list[Any], accepted: list[bool]) -> None:
        if any(accepted):
            self._fruitless, self._accepted_s = 0, self._clock()
        else:
            self._fruitless += 1
            lasted_s = self._clock() - self._accepted_s
            if lasted_s >= GIVE_UP_AFTER_S:
                code = answers[0].get("ErrorCode", "unknown error")
                raise Fatal(f"stream {self._stream}: no record accepted for {lasted_s:.0f} s: {code}")
        if not all(accepted):
            self._sleep(min(LAST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(self._fruitless, 10)))


_PASSING = frozenset(
    {
        "InternalFailure",
        "InternalFailureException",
        "KMSThrottlingException",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "ServiceUnavailable",
        "ThrottlingException",
    }
)
"""Error codes of a whole call that may not occur in a later call."""


def _wire(entry: PutEntry) -> Any:
    explicit = {"ExplicitHashKey": entry.explicit_hash_key} if entry.explicit_hash_key is not None else {}
    return {"Data": entry.data, "PartitionKey": entry.partition_key, **explicit}


def _unfit(entry: PutEntry, largest_bytes: int) -> str:
    """Why no stream accepts it; empty for a record that fits."""
    if not 1 <= len(entry.partition_key) <= KEY_CHARACTERS:
        length = counted(len(entry.partition_key), "character")
        return f"the partition key has {length}, and 1 to {KEY_CHARACTERS} are allowed"
    size = len(entry.data) + len(entry.partition_key.encode("utf-8", "surrogatepass"))
    if size > largest_bytes:
        return f"data and key have {counted(size, 'byte')}, and the stream takes {largest_bytes:,}"
    return ""
