"""A record of a shard, and what becomes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa


class Position(NamedTuple):
    """A place in a shard: compares as KCL's extended sequence number does.

    Sequence numbers are decimal strings of up to 56 digits without padding, so they are held as integers.
    """

    sequence: int
    sub: int

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read ``"<sequence>/<sub>"``, as written by :meth:`__str__`."""
        sequence, _, sub = text.partition("/")
        return cls(int(sequence), int(sub or 0))

    def __str__(self) -> str:
        return f"{self.sequence}/{self.sub}"

    @property
    def end_of_record(self) -> Position:
        """Behind all that the Kinesis record holds, however much that is: what a checkpoint of KCL's means."""
        return Position(self.sequence, LAST_SUB)


LAST_SUB = 2**63 - 1
"""Above every sub-sequence number: KCL's are Java's ``long``."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One life of a shard: ids repeat when a stream is made anew, creation times do not."""

    stream: str
    stream_created_s: int
    shard_id: str


About = tuple[str, str | None, str, int, int]
"""Which record it is: shard, partition key, sequence and sub-sequence number, arrival in ms since 1970."""


class Payload(bytes):
    """A record's payload that says whose it is; of payloads that need not, plain ``bytes`` are sent to the model."""

    about: About

    @classmethod
    def of(cls, record: Record) -> Payload:
        """The payload of a record, with what a model may ask about it."""
        payload = cls(record.data)
        payload.about = (record.shard_id, record.partition_key, record.sequence, record.sub, record.arrived_ms)
        return payload


@dataclass(slots=True, eq=False)
class Record:
    """One record as its producer wrote it, perhaps a user record of a KPL aggregate, plus its way through the stage.

    ``partition_key`` is None if the producer gave none, and has 256 characters at most. ``whole`` is true where KCL's
    checkpoint may stand after this record: it is the last of its aggregate, or of none. ``outcome`` is set by
    :meth:`settle`; ``data`` is dropped then. ``key_bytes``: what its key adds to memory, where that is more than
    ``RECORD_BYTES`` allows for; 0 for those that share it.
    """

    shard_id: str
    data: bytes
    partition_key: str | None
    sequence: str
    sub: int
    arrived_ms: int
    whole: bool = True
    cost: int = 1
    outcome: Outcome | None = field(default=None, repr=False)
    key_bytes: int = 0

    @property
    def position(self) -> Position:
        """Its place in the shard: comparable as numbers."""
        return Position(int(self.sequence), self.sub)

    @property
    def last(self) -> Position:
        """Of what the record holds: of itself, but for an aggregate that is not taken apart."""
        return self.position

    def settle(self, outcome: Outcome) -> None:
        """Say what becomes of it: the model's host does, or who finds that no model can have it. Once, on its way."""
        self.outcome = outcome

    def record_id(self, stream: str) -> str:
        """``<stream>/<shard>/<sequence>/<sub>``: the identity that rows and dead letters share."""
        return record_id(stream, self.shard_id, self.sequence, self.sub)


def record_id(stream: str, shard_id: str, sequence: str, sub: int) -> str:
    """See :meth:`Record.record_id`."""
    return f"{stream}/{shard_id}/{sequence}/{sub}"


class Enriched(NamedTuple):
    """Row ``row`` of ``table`` is this record's enrichment: the carried payload fields, then the model's output."""

    table: pa.RecordBatch
    row: int


REASONS = frozenset(
    {
        "aggregate",
        "decode",
        "rejected",
        "exception",
        "contract",
        "not_finite",
        "timeout",
        "died",
        "memory",
        "sink",
        "killed",
    }
)
"""Why records become dead letters. Another reason is counted as ``other``, so that labels stay few."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a try failed. ``kind`` is one of :data:`REASONS`; ``where`` has no word of a payload."""

    kind: str
    reason: str
    traceback: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class Dead:
    """This record will never be a row. ``payload`` is what the producer wrote, byte for byte.

    ``kind`` is one of :data:`REASONS`. ``sink``: the one sink that cannot carry its row, while the others
    have it; empty: it is a row nowhere. ``where``: the exception's type and place, without a word of the payload's.
    """

    payload: bytes
    reason: str
    traceback: str
    attempts: int
    kind: str = "exception"
    sink: str = ""
    where: str = ""

    @property
    def size_bytes(self) -> int:
        """What it holds in memory, roughly."""
        return len(self.payload) + len(self.reason) + len(self.traceback)


Outcome = Enriched | Dead


RECORD_BYTES = 500
"""What a record holds in memory beside its payload: the object, its numbers, a key of usual length."""


def weight(records: Sequence[Record]) -> int:
    """What the records hold in memory, in bytes; those without a payload weigh something, too."""
    keys: int = sum(map(_KEY_BYTES, records))
    return RECORD_BYTES * len(records) + sum(map(len, map(_DATA, records))) + keys


_DATA, _KEY_BYTES = attrgetter("data"), attrgetter("key_bytes")
"""Attributes that are read of every record: in C."""


def cost_of(records: Sequence[Record], *, pads: bool) -> int:
    """What a batch costs: the sum, or, if the model pads, its dearest record's cost for each."""
    costs = [record.cost for record in records]
    return max(costs, default=0) * len(costs) if pads else sum(costs)


SETTLED_BYTES = 300
"""What a settled record holds in memory beside its row, its payload and its partition key."""


def settled_weight(records: Sequence[Record]) -> int:
    """What settled records hold in memory, in bytes, about: their shares of batches' rows, or payloads, and keys.

    A key that the user records of an aggregate share is held once, and weighs once.
    """
    tables = [record.outcome.table for record in records if isinstance(record.outcome, Enriched)]
    by_id = {id(table): table for table in tables if table is not None}
    rows = Counter(map(id, tables))
    shares: int = sum(int(table.nbytes) // max(1, table.num_rows) * rows[name] for name, table in by_id.items())
    texts = {id(record.partition_key): record.partition_key or "" for record in records}
    keys = sum(map(len, texts.values()))
    dead = [record.outcome.size_bytes for record in records if isinstance(record.outcome, Dead)]
    return SETTLED_BYTES * len(records) + shares + keys + sum(dead)


@dataclass(slots=True)
class Run:
    """A contiguous stretch of one shard's settled records, in sequence order: what sinks are handed.

    Never empty. ``records[i].outcome`` is set for every i. Runs of a shard follow each other without a gap.
    ``payloads``: what the producers of the records wrote, in their order, where a sink has asked for it; else empty.
    """

    shard: Shard
    records: list[Record]
    payloads: Sequence[bytes] = ()

    @property
    def end(self) -> Position:
        """Of its last record."""
        return self.records[-1].position
