"""A whole table held against its stream, shards side by side. Blocks; reads only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from consumer.stream_records import arrivals, shards
from pipeline.sinks.against import Arrival, ShardComparison, Written, compared, held, written
from pipeline.sinks.audit import Problem
from pipeline.sinks.store import ObjectStore

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

SHARDS_AT_ONCE = 8
"""Of each, a page of the stream (10 MiB at most) and a file of the table are held."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Shard by shard. Shards that Kinesis has forgotten are among them, with everything they have ``retired``."""

    stream: str
    shards: list[ShardComparison]

    def problems(self, *, complete: bool = False) -> list[Problem]:
        """Empty if all is well. ``complete``: what has not been read yet is a problem, too."""
        return [problem for shard in self.shards for problem in shard.problems(self.stream, complete=complete)]

    def totals(self) -> dict[str, int]:
        """Over all shards, by the names of :class:`ShardComparison`."""
        return {
            "compared": sum(shard.compared for shard in self.shards),
            "missing": sum(len(shard.missing) for shard in self.shards),
            "alien": sum(len(shard.alien) for shard in self.shards),
            "differs": sum(len(shard.differs) for shard in self.shards),
            "behind": sum(shard.behind for shard in self.shards),
            "retired": sum(shard.retired for shard in self.shards),
        }

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        behind = {shard.shard_id: shard.behind for shard in self.shards if shard.behind}
        return {"stream": self.stream, **self.totals(), "behind_by_shard": behind}


def compare(
    kinesis: KinesisClient,
    stream: str,
    stream_created_s: int,
    store: ObjectStore,
    generation: int,
    *,
    tell: Callable[[int], None] = lambda records: None,
) -> Comparison:
    """Every record of the stream up to where the table reaches is in it once, and the table has no others.

    The table may be written to meanwhile: its files are listed first, and whatever they hold was on the stream
    before. ``tell`` hears, from several threads, of every page of records read. Raises botocore's errors.
    """
    files = written(store, generation, stream_created_s)
    known = {shard.shard_id: shard for shard in shards(kinesis, stream)}

    def one(shard_id: str) -> ShardComparison:
        of_table = files.get(shard_id, Written(None, []))
        shard = known.get(shard_id)
        pages: Iterable[list[Arrival]] = [] if shard is None else _told(arrivals(kinesis, stream, shard), tell)
        return compared(shard_id, of_table.reached, pages, held(store, of_table.keys))

    with ThreadPoolExecutor(SHARDS_AT_ONCE, thread_name_prefix="audit") as threads:
        return Comparison(stream, list(threads.map(one, sorted(known.keys() | files.keys()))))


def _told(pages: Iterator[list[Arrival]], tell: Callable[[int], None]) -> Iterator[list[Arrival]]:
    for page in pages:
        tell(len(page))
        yield page
