"""One stream: its shards, its status, its consumers and its changes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from consumer.local.kinesis.errors import in_use, not_found
from consumer.local.kinesis.hash_ranges import KeyRange, MergeRanges, SplitRange, uniform
from consumer.local.kinesis.shard import LocalShard

HOUR_MS = 3_600_000
BY_KEY = "USER_PARTITION_KEY"
"""The distribution strategy in which the key of a record selects its shard. With AUTO the service selects it."""

SHARDS_AT_FIRST = 4
"""The number of shards of a new on-demand stream, or of one created without ShardCount, as on AWS."""


class Timestamp:
    """A time in an answer, in milliseconds since the epoch. The codec decides how it is written."""

    __slots__ = ("ms",)

    def __init__(self, ms: int) -> None:
        self.ms = ms


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """The start of a subscription. Each is equal only to itself."""

    at_ms: int


@dataclass(slots=True)
class Consumer:
    """A registered consumer: CREATING until ``ready_ms``; once deregistered, DELETING until ``gone_ms``."""

    name: str
    arn: str
    created_ms: int
    ready_ms: int
    gone_ms: int | None = None
    tags: dict[str, str] = field(default_factory=dict)
    opened: dict[str, Opened] = field(default_factory=dict)
    """The latest subscription to each shard, by shard id, including those that have ended."""

    def status(self, now_ms: int) -> str:
        """``ConsumerStatus`` at this time."""
        if self.gone_ms is not None:
            return "DELETING"
        return "ACTIVE" if now_ms >= self.ready_ms else "CREATING"

    def to_dict(self, now_ms: int) -> dict[str, Any]:
        """Return the consumer as RegisterStreamConsumer and ListStreamConsumers show it."""
        return {
            "ConsumerName": self.name,
            "ConsumerARN": self.arn,
            "ConsumerStatus": self.status(now_ms),
            "ConsumerCreationTimestamp": Timestamp(self.created_ms),
        }


class PendingChange(NamedTuple):
    """A change in progress: the status until ``due_ms``, when ``apply`` is called with the time."""

    status: str
    due_ms: int
    apply: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Owner:
    """The account and region of a stream, for ARNs and messages."""

    account: str
    region: str

    @property
    def arn(self) -> str:
        """The beginning of the ARNs of its streams, up to ``:stream/``."""
        return f"arn:aws:kinesis:{self.region}:{self.account}"


class Stream:
    """A stream. ``shards`` are in the order in which they were made. Call :meth:`settle` before any other method."""

    def __init__(self, owner: Owner, name: str, shard_count: int, now_ms: int) -> None:
        self.owner = owner
        self.name = name
        self.arn = f"{owner.arn}:stream/{name}"
        self.created_ms = now_ms
        self.mode = "PROVISIONED"
        self.distribution = BY_KEY
        self.retention_hours = 24
        self.max_record_kib = 1024
        self.warm_mib: int | None = None
        self.tags: dict[str, str] = {}
        self.monitoring: set[str] = set()
        self.consumers: dict[str, Consumer] = {}
        self.shards: dict[str, LocalShard] = {}
        self.recounts_ms: list[int] = []
        self._change: PendingChange | None = None
        self._made = 0
        self._turn = 0
        self._open: list[LocalShard] = []
        self._starts: list[int] = []
        for keys in uniform(shard_count):
            self._add(keys, now_ms, ())
        self._index()

    # -- status

    @property
    def status(self) -> str:
        """``StreamStatus``: ACTIVE, or the status of the change in progress."""
        return self._change.status if self._change else "ACTIVE"

    @property
    def place(self) -> str:
        """The stream as error messages name it."""
        return f"stream {self.name} under account {self.owner.account}"

    def begin(self, change: PendingChange) -> None:
        """Start a change; it replaces one that is in progress."""
        self._change = change

    def settle(self, now_ms: int) -> None:
        """Apply the change that is due, as of the time it was due, and remove consumers that are deregistered."""
        if self._change and self._change.due_ms <= now_ms:
            change, self._change = self._change, None
            change.apply(change.due_ms)
        gone = [name for name, one in self.consumers.items() if one.gone_ms is not None and one.gone_ms <= now_ms]
        for name in gone:
            del self.consumers[name]

    def require_active(self) -> None:
        """Check the status.

        :raises KinesisError: ``ResourceInUseException`` unless the stream is ACTIVE.
        """
        if self.status != "ACTIVE":
            raise in_use(
                f"Stream {self.name} under account {self.owner.account} not ACTIVE, instead in state {self.status}"
            )

    def require_made(self) -> None:
        """Check that the shards exist.

        :raises KinesisError: ``ResourceNotFoundException`` while the stream is CREATING.
        """
        if self.status == "CREATING":
            raise not_found(f"Stream {self.name} under account {self.owner.account} not found.")

    # -- retention

    def horizon_ms(self, now_ms: int) -> int:
        """Return the trim horizon, in milliseconds since the epoch. Older records cannot be read."""
        return max(now_ms - self.retention_hours * HOUR_MS, self.created_ms)

    def trim(self, now_ms: int) -> None:
        """Remove records older than the trim horizon, and shards that were closed before it."""
        horizon_ms = self.horizon_ms(now_ms)
        for shard in list(self.shards.values()):
            shard.trim(horizon_ms)
            if shard.expired(horizon_ms):
                del self.shards[shard.shard_id]

    def trimmed(self, shard_id: str, now_ms: int) -> LocalShard | None:
        """Return the shard without its expired records, or None if it does not exist or has expired."""
        shard, horizon_ms = self.shards.get(shard_id), self.horizon_ms(now_ms)
        if shard is None or shard.expired(horizon_ms):
            return None
        shard.trim(horizon_ms)
        return shard

    # -- shards

    def open_shards(self) -> list[LocalShard]:
        """Return the open shards, sorted by hash range. They always cover the whole space."""
        return self._open

    def next_in_turn(self) -> LocalShard:
        """Return the next open shard in turn, for the distribution strategy AUTO."""
        self._turn += 1
        return self._open[self._turn % len(self._open)]

    def route(self, hash_key: int) -> LocalShard:
        """Return the open shard whose range has this hash key."""
        return self._open[bisect_right(self._starts, hash_key) - 1]

    def take_steps(self, steps: Sequence[SplitRange | MergeRanges], now_ms: int) -> None:
        """Split and merge open shards. The steps name them by their hash ranges."""
        by_keys = {shard.keys: shard for shard in self._open}
        for step in steps:
            if isinstance(step, SplitRange):
                made = self._split(by_keys.pop(step.shard), step.at, now_ms)
            else:
                made = [self._merge(by_keys.pop(step.lower), by_keys.pop(step.upper), now_ms)]
            by_keys.update((shard.keys, shard) for shard in made)
        self._index()

    def _split(self, shard: LocalShard, at: int, now_ms: int) -> list[LocalShard]:
        shard.close(now_ms)
        shard.children = [self._add(keys, now_ms, (shard,)) for keys in shard.keys.split(at)]
        return shard.children

    def _merge(self, lower: LocalShard, upper: LocalShard, now_ms: int) -> LocalShard:
        child = self._add(lower.keys.merge(upper.keys), now_ms, (lower, upper))
        for parent in (lower, upper):
            parent.close(now_ms)
            parent.children = [child]
        return child

    def _add(self, keys: KeyRange, now_ms: int, parents: tuple[LocalShard, ...]) -> LocalShard:
        epoch_s = max([now_ms // 1000, *(parent.epoch_s + 1 for parent in parents)])
        shard = LocalShard(self._made, keys, epoch_s, now_ms, tuple(parent.shard_id for parent in parents))
        self._made += 1
        self.shards[shard.shard_id] = shard
        return shard

    def _index(self) -> None:
        self._open = sorted((shard for shard in self.shards.values() if shard.is_open), key=lambda shard: shard.keys)
        self._starts = [shard.keys.start for shard in self._open]
