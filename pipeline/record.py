"""A record of a shard, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class Shard:
    """One life of a shard: ids repeat when a stream is made anew, creation times do not."""

    stream: str
    stream_created_s: int
    shard_id: str


@dataclass(slots=True, eq=False)
class Record:
    """One record as its producer wrote it (KPL aggregates arrive taken apart), plus its way through the stage.

    ``whole`` is true where a file or a checkpoint may end after this record: it is the last of its KPL aggregate,
    or no aggregate at all. ``outcome`` is set once, when the record settles; ``data`` is dropped then.
    """

    shard_id: str
    data: bytes
    partition_key: str
    sequence: str
    sub: int
    arrived_ms: int
    whole: bool = True
    cost: int = 1
    outcome: Outcome | None = field(default=None, repr=False)

    @property
    def position(self) -> Position:
        return Position(int(self.sequence), self.sub)

    def record_id(self, stream: str) -> str:
        """``<stream>/<shard>/<sequence>/<sub>``: the identity that rows and dead letters share."""
        return f"{stream}/{self.shard_id}/{self.sequence}/{self.sub}"


class Enriched(NamedTuple):
    """Row ``row`` of ``table`` is this record's enrichment: the carried payload fields, then the model's output."""

    table: pa.RecordBatch
    row: int


@dataclass(frozen=True, slots=True)
class Dead:
    """This record will never be a row. ``payload`` is what the producer wrote, byte for byte.

    ``kind`` is one of ``pipeline.metrics.REASONS``. ``sink``: the one sink that cannot carry its row, while the others
    have it; empty: it is a row nowhere. ``where``: the exception's type and place, without a word of the payload's.
    """

    payload: bytes
    reason: str
    traceback: str
    attempts: int
    kind: str = "exception"
    sink: str = ""
    where: str = ""


Outcome = Enriched | Dead


def data_bytes(records: Iterable[Record]) -> int:
    """What the records' payloads have together."""
    return sum([len(record.data) for record in records])


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
        return self.records[-1].position
