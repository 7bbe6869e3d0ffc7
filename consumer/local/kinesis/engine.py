"""All streams of one account in one region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from consumer.local.kinesis.errors import invalid, not_found
from consumer.local.kinesis.metrics import MINUTE_MS, Key, StreamMetrics
from consumer.local.kinesis.stream import Owner, Stream

ACCOUNT = "123456789012"
"""The default account of moto."""
CHANGE_MS = 300
"""Milliseconds that a stream is CREATING, UPDATING or DELETING: long enough to observe, short enough for tests."""


@dataclass(slots=True)
class Commitment:
    """The account's commitment to pay for a minimum throughput, from ``started_ms`` to ``ends_ms`` (None: no end)."""

    started_ms: int | None = None
    ends_ms: int | None = None


class Engine:
    """The state that the operations work on. Not thread-safe.

    With ``limits`` off, shards have no rate limits and UpdateShardCount accepts any count. The limits on a single
    request always apply.
    """

    def __init__(self, region: str, *, limits: bool = True, change_ms: int = CHANGE_MS, account: str = ACCOUNT) -> None:
        self.owner = Owner(account, region)
        self.limits = limits
        self.change_ms = change_ms
        self.metrics = StreamMetrics()
        self.commitment = Commitment()
        self.streams: dict[str, Stream] = {}

    def find(self, request: dict[str, Any]) -> Stream:
        """Return the stream that a request names by ``StreamName``, ``StreamARN`` or both.

        :raises KinesisError: if they contradict each other, there is no such stream, or the ARN is of another account
            or region.
        """
        name = request.get("StreamName")
        arn = request.get("StreamARN")
        if arn is not None:
            place, _, rest = arn.partition(":stream/")
            of_arn = rest.partition("/")[0]
            if name is not None and name != of_arn:
                raise invalid(f"StreamARN {arn} and StreamName {name} do not name the same stream.")
            if place != self.owner.arn:
                raise not_found(f"Stream {arn} not found. The streams here have ARNs that begin with {self.owner.arn}:")
            name = of_arn
        if name is None:
            raise invalid("Either StreamName or StreamARN must be given.")
        return self.named(name)

    def named(self, name: str) -> Stream:
        """Return the stream of this name.

        :raises KinesisError: ``ResourceNotFoundException`` if there is none.
        """
        stream = self.streams.get(name)
        if stream is None:
            raise not_found(f"Stream {name} under account {self.owner.account} not found.")
        return stream

    def count(self, stream: Stream, shard_id: str, name: str, value: float, now_ms: int, shard_name: str = "") -> None:
        """Count a value for the stream, and for the shard if enhanced monitoring of ``shard_name`` is on."""
        minute_ms = now_ms - now_ms % MINUTE_MS
        self.metrics.add(Key(stream.name, "", name, minute_ms), value)
        if shard_name in stream.monitoring:
            self.metrics.add(Key(stream.name, shard_id, shard_name, minute_ms), value)
