"""All streams of one account in one region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from consumer.local.kinesis.errors import invalid, not_found
from consumer.local.kinesis.metrics import MINUTE_MS, Key, Metrics
from consumer.local.kinesis.stream import Owner, Stream

ACCOUNT = "123456789012"
"""The account that moto uses unless it is told another."""
CHANGE_MS = 300
"""How long a stream is CREATING, UPDATING or DELETING: long enough to be seen, short enough for tests."""


@dataclass(slots=True)
class Commitment:
    """The account's commitment to pay for a least throughput: from ``started_ms`` until ``ends_ms``, if ever."""

    started_ms: int | None = None
    ends_ms: int | None = None


class Engine:
    """What the operations work on. Not for several threads at a time.

    With ``limits`` off, shards carry any rate and UpdateShardCount takes any count; what a single request may hold
    is bounded all the same.
    """

    def __init__(self, region: str, *, limits: bool = True, change_ms: int = CHANGE_MS, account: str = ACCOUNT) -> None:
        self.owner = Owner(account, region)
        self.limits = limits
        self.change_ms = change_ms
        self.metrics = Metrics()
        self.commitment = Commitment()
        self.streams: dict[str, Stream] = {}

    def find(self, request: dict[str, Any]) -> Stream:
        """The stream that a request names by ``StreamName``, ``StreamARN`` or both."""
        name = request.get("StreamName")
        arn = request.get("StreamARN")
        if arn is not None:
            of_arn = arn.partition(":stream/")[2].partition("/")[0]
            if name is not None and name != of_arn:
                raise invalid(f"StreamARN {arn} and StreamName {name} do not name the same stream.")
            name = of_arn
        if name is None:
            raise invalid("Either StreamName or StreamARN must be given.")
        return self.named(name)

    def named(self, name: str) -> Stream:
        stream = self.streams.get(name)
        if stream is None:
            raise not_found(f"Stream {name} under account {self.owner.account} not found.")
        return stream

    def count(self, stream: Stream, shard_id: str, name: str, value: float, now_ms: int, shard_name: str = "") -> None:
        """Count for the stream, and for the shard too where its enhanced monitoring asks for ``shard_name``."""
        minute_ms = now_ms - now_ms % MINUTE_MS
        self.metrics.add(Key(stream.name, "", name, minute_ms), value)
        if shard_name in stream.monitoring:
            self.metrics.add(Key(stream.name, shard_id, shard_name, minute_ms), value)
