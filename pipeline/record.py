"""A record of a shard, and its outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa


class Position(NamedTuple):
    """A place in a shard. Compares as KCL's extended sequence numbers do.

    Sequence numbers are decimal strings of up to 56 digits without padding, so they are stored as integers.
    """

    sequence: int
    sub: int

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read ``"<sequence>/<sub>"``, as written by :meth:`__str__`; a missing ``sub`` is 0.

        :raises ValueError: it is anything else.
        """
        sequence, _, sub = text.partition("/")
        return cls(int(sequence), int(sub or 0))

    def __str__(self) -> str:
        return f"{self.sequence}/{self.sub}"

    @property
    def end_of_record(self) -> Position:
        """The position after everything in the Kinesis record, however many user records it holds. KCL's checkpoints
        mean this.
        """
        return Position(self.sequence, LAST_SUB)


LAST_SUB = 2**63 - 1
"""Above every sub-sequence number, which is a Java ``long`` in KCL."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One life of a shard. Shard ids are used again when a stream is deleted and created again; creation times are
    not.
    """

    stream: str
    stream_created_s: int
    shard_id: str


About = tuple[str, str | None, str, int, int]
"""Identifies a record: shard, partition key, sequence and sub-sequence number, arrival in milliseconds since 1970."""


class Payload(bytes):
    """A record's payload together with its identity, ``about``. Sent only to models that ask for records."""

    about: About

    @classmethod
    def of(cls, record: Record) -> Payload:
        """Make the payload of this record. Copies the data."""
        payload = cls(record.data)
        payload.about = (record.shard_id, record.partition_key, record.sequence, record.sub, record.arrived_ms)
        return payload


@dataclass(slots=True, eq=False)
class Record:
    """One record as its producer wrote it, perhaps a user record of a KPL aggregate, and its state in the stage.

    ``partition_key``: at most 256 characters; None if the producer gave none. ``arrived_ms``: milliseconds since 1970.
    ``whole``: KCL's checkpoint may stand after this record, because it is not in an aggregate or is the last one in it.
    ``cost``: as the model measured it. ``outcome`` is set by :meth:`settle`; ``data`` is dropped later. ``key_bytes``:
    memory of the key beyond what ``RECORD_BYTES`` includes; 0 for records that share a key.
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
        """The record's place in its shard."""
        return Position(int(self.sequence), self.sub)

    @property
    def last(self) -> Position:
        """Position of the last record in it: its own, except for an aggregate that has not been taken apart."""
        return self.position

    def settle(self, outcome: Outcome) -> None:
        """Set the outcome. The model host calls it, or whatever finds that the record cannot go to the model; once
        for each record.
        """
        self.outcome = outcome

    def record_id(self, stream: str) -> str:
        """Return ``<stream>/<shard>/<sequence>/<sub>``, the identity that rows and dead letters share."""
        return record_id(stream, self.shard_id, self.sequence, self.sub)


def record_id(stream: str, shard_id: str, sequence: str, sub: int) -> str:
    """As :meth:`Record.record_id`."""
    return f"{stream}/{shard_id}/{sequence}/{sub}"


class Enriched(NamedTuple):
    """The record is row ``row`` of ``table``, which has the carried payload fields and then the model's output."""

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
        "skipped",
    }
)
"""Why records become dead letters. Any other reason is counted as ``other``, which bounds the number of labels."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a try failed. ``kind`` is one of :data:`REASONS`. ``where`` is the error's type and place, without any
    payload.
    """

    kind: str
    reason: str
    traceback: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class Dead:
    """This record will never be a row. ``payload`` is what the producer wrote, byte for byte.

    ``kind`` is one of :data:`REASONS`. ``attempts``: how often it was tried alone. ``sink``: the one sink that cannot
    store its row, while the others have it; empty if no sink has a row. ``where``: the exception's type and place,
    without any payload.
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
        """Bytes of payload, reason and traceback, about."""
        return len(self.payload) + len(self.reason) + len(self.traceback)


Outcome = Enriched | Dead


RECORD_BYTES = 500
"""Memory of a record besides its payload, in bytes: the object, its numbers, a key of usual length."""


def weight(records: Sequence[Record]) -> int:
    """Return the memory that the records use, in bytes. Records without a payload count as well."""
    keys: int = sum(map(_KEY_BYTES, records))
    return RECORD_BYTES * len(records) + sum(map(len, map(_DATA, records))) + keys


_DATA, _KEY_BYTES = attrgetter("data"), attrgetter("key_bytes")
"""Attributes that are read from every record, in C."""


def cost_of(records: Sequence[Record], *, pads: bool) -> int:
    """Return the cost of a batch: the sum; if the model pads, the largest cost times the number of records."""
    costs = [record.cost for record in records]
    return max(costs, default=0) * len(costs) if pads else sum(costs)


SETTLED_BYTES = 300
"""Memory of a settled record besides its row, payload and partition key, in bytes."""


def settled_weight(records: Sequence[Record]) -> int:
    """Return the approximate memory of settled records, in bytes: shares of batches' rows, payloads of dead letters,
    keys.

    A key that the user records of an aggregate share is stored once and counts once.
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
    """A contiguous range of one shard's settled records, in sequence order, as sinks receive it.

    Never empty; every record has its outcome. Runs of a shard follow each other without a gap. ``payloads``: what the
    producers wrote, in the same order, if a sink asked for them; else empty.
    """

    shard: Shard
    records: list[Record]
    payloads: Sequence[bytes] = ()

    @property
    def end(self) -> Position:
        """Position of the last record."""
        return self.records[-1].position
