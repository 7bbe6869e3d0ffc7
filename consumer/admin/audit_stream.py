"""Compares a whole table with its stream, several shards at a time. Blocks; reads only."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import count
from threading import Event
from typing import TYPE_CHECKING, Any

from consumer.aws import hash_ranges
from consumer.aws.shards import known, spread_by_key
from consumer.aws.stream_reader import arrivals, oldest
from pipeline.stores.base import ObjectStore
from pipeline.table.audit import Problem
from pipeline.table.compare import ShardComparison, Written, compared, held, written

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

SHARDS_AT_ONCE = 8
"""Shards compared at a time. Each holds one page of the stream (10 MiB at most) and one file of the table in memory:
40 MiB for 100,000 rows."""


class Stopped(Exception):
    """Another shard failed, or Ctrl-C was pressed: the result is no longer needed."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result per shard. Includes shards that Kinesis no longer lists, with all of their records ``retired``."""

    stream: str
    shards: list[ShardComparison]

    def problems(self, *, complete: bool = False) -> list[Problem]:
        """The problems; empty if there are none. ``complete``: records that are not read yet are a problem, too."""
        return [problem for shard in self.shards for problem in shard.problems(self.stream, complete=complete)]

    def totals(self) -> dict[str, int]:
        """Sums over all shards, by the field names of :class:`ShardComparison`."""
        return {
            "compared": sum(shard.compared for shard in self.shards),
            "missing": sum(shard.missing.count for shard in self.shards),
            "doubled": sum(shard.doubled.count for shard in self.shards),
            "alien": sum(shard.alien.count for shard in self.shards),
            "differs": sum(shard.differs.count for shard in self.shards),
            "behind": sum(shard.behind for shard in self.shards),
            "retired": sum(shard.retired for shard in self.shards),
            "misplaced": sum(shard.misplaced for shard in self.shards),
        }

    @property
    def behind(self) -> dict[str, int]:
        """Number of records not read yet, for each shard that has any."""
        return {shard.shard_id: shard.behind for shard in self.shards if shard.behind}

    @property
    def misplaced(self) -> dict[str, int]:
        """Number of aggregates with user records of another shard, for each shard that has any. Not a problem."""
        return {shard.shard_id: shard.misplaced for shard in self.shards if shard.misplaced}

    def to_dict(self) -> dict[str, Any]:
        """The result for ``--json``."""
        by_shard = {"behind_by_shard": self.behind, "misplaced_by_shard": self.misplaced}
        return {"stream": self.stream, **self.totals(), **by_shard}


def compare(
    kinesis: KinesisClient,
    stream: str,
    stream_created_s: int,
    store: ObjectStore,
    dead_letters: ObjectStore | None = None,
    *,
    tell: Callable[[int], None] = lambda records: None,
) -> Comparison:
    """Check that the table has each record of the stream once, up to where it has been read, and no other record.

    Workers may write to the table at the same time: its files are listed first, so all of their records were already
    on the stream. ``tell`` is called from several threads, after every page of records. Raises the errors of botocore
    and of the store; then, and on Ctrl-C, every thread ends after its page.
    """
    files = written(store, stream_created_s)
    there = known(kinesis, stream)
    ranges = hash_ranges.of_shards(there) if spread_by_key(kinesis, stream) else {}
    stop = Event()

    def pause(seconds: float) -> None:
        if stop.wait(seconds):
            raise Stopped

    def one(shard_id: str) -> ShardComparison:
        of_table = files.get(shard_id, Written(None, []))
        rows = held(store, of_table.keys, dead_letters)
        if shard_id not in there:
            return compared(shard_id, of_table.reached, [], rows, lambda: None)
        misplaced = count()
        pages = arrivals(
            kinesis,
            stream,
            shard_id,
            tell=tell,
            sleep=pause,
            within=ranges.get(shard_id),
            misplaced=partial(next, misplaced),
        )
        found = compared(shard_id, of_table.reached, pages, rows, partial(oldest, kinesis, stream, shard_id, pause))
        found.misplaced = next(misplaced)
        return found

    with ThreadPoolExecutor(SHARDS_AT_ONCE, thread_name_prefix="audit") as threads:
        try:
            found = [threads.submit(one, shard_id) for shard_id in sorted(there.keys() | files.keys())]
            done, _ = wait(found, return_when=FIRST_EXCEPTION)
            for each in done:
                each.result()
            return Comparison(stream, [each.result() for each in found])
        finally:
            stop.set()
            threads.shutdown(cancel_futures=True)
