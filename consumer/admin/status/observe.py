"""Reads an application: its tables, its stream, its workers' pages. Blocks.

Cost of a look: a consistent scan of KCL's tables, one ListShards, and one request to each page. The stream itself is
read only for shards whose lag no worker reports, at most every ``PROBE_S`` and one record a shard: a shard allows five
reads a second to all readers together, and KCL needs four. CloudWatch is asked for the stream's incoming records once a
minute.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from consumer.admin.status.liveness import liveness
from consumer.admin.status.pages import PageAnswer, WorkerPages, ask
from consumer.admin.status.snapshot import NOTE, PAGE, Snapshot, WorkerSaid, number
from consumer.aws import shards
from consumer.aws.shard_metrics import arrival_rate
from consumer.aws.shards import KnownShard
from consumer.leases.state import NO_TABLES, ApplicationState, read_state
from pipeline.errors import UserError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_kinesis import KinesisClient

    from consumer.leases.leases import Lease

PROBE_S = 10.0
PROBES = 50
"""Maximum number of shards read in one look."""

PROBES_AT_ONCE = 8

COUNTED_S = 60.0
"""CloudWatch has a new number each minute."""


class Observer:
    """Observes one stream and application. ``ask`` requests a worker's page; ``clock`` is the time of day."""

    def __init__(
        self,
        dynamodb: DynamoDBClient,
        kinesis: KinesisClient,
        stream: str,
        application: str,
        *,
        cloudwatch: Any = None,
        ask: Callable[[str], PageAnswer] = ask,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._dynamodb = dynamodb
        self._kinesis = kinesis
        self._stream = stream
        self._application = application
        self._cloudwatch = cloudwatch
        self._counted: float | None = None
        self._counted_s = -COUNTED_S
        self._pages = WorkerPages(ask)
        self._clock = clock
        self._probed: dict[str, tuple[float, float | None]] = {}

    def look(self) -> Snapshot:
        """Take one look. Raises botocore's errors."""
        state = read_state(self._dynamodb, self._application)
        known = self._known()
        answers = self._pages.ask_all(state.notes)
        at_s = self._clock()
        said = _said(state, answers, at_s)
        gone = frozenset(worker for worker, answer in answers.items() if answer.refused)
        look = Snapshot(at_s, state, known, said, gone)
        living = {worker for worker, life in liveness([look]).items() if life.alive}
        told = {lease.shard_id for lease in state.leases if lease.holder in living and look.of_shard(lease)}
        wanted = [lease for lease in state.leases if not lease.ended and lease.shard_id in known.keys() - told]
        return Snapshot(at_s, state, known, said, gone, self._probe(wanted, at_s), self._arrival_rate(at_s))

    def _known(self) -> dict[str, KnownShard]:
        """:raises UserError: there is no such stream, which the caller would take for the application."""
        try:
            return shards.known(self._kinesis, self._stream)
        except self._kinesis.exceptions.ResourceNotFoundException:
            raise UserError(
                f"stream {self._stream} does not exist in this account and region. Check the stream's name, AWS_REGION "
                "and AWS_ENDPOINT_URL"
            ) from None

    def _arrival_rate(self, at_s: float) -> float | None:
        """The rate from CloudWatch, asked once a minute; None if unknown or refused."""
        if self._cloudwatch is not None and at_s - self._counted_s >= COUNTED_S:
            self._counted_s = at_s
            try:
                self._counted = arrival_rate(self._cloudwatch, self._stream, at_s)
            except (BotoCoreError, ClientError):
                self._counted = None
        return self._counted

    def _probe(self, leases: Iterable[Lease], at_s: float) -> dict[str, float]:
        """How far each shard is behind, found by a read of the stream at its checkpoint."""
        due = [lease for lease in leases if at_s - self._probed.get(lease.shard_id, (0.0, None))[0] >= PROBE_S]
        due.sort(key=lambda lease: self._probed.get(lease.shard_id, (0.0, None))[0])
        with ThreadPoolExecutor(PROBES_AT_ONCE) as threads:
            found = list(threads.map(self._behind_s, due[:PROBES]))
        for lease, behind_s in zip(due, found, strict=False):
            self._probed[lease.shard_id] = (at_s, behind_s)
        latest = {lease.shard_id: self._probed.get(lease.shard_id, (0.0, None))[1] for lease in leases}
        return {shard_id: behind_s for shard_id, behind_s in latest.items() if behind_s is not None}

    def _behind_s(self, lease: Lease) -> float | None:
        """None if unknown: Kinesis refuses, or the lease is at LATEST or at a time."""
        where: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
        if lease.checkpoint is not None:
            sequence = str(lease.checkpoint.sequence)
            where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": sequence}
        elif lease.sentinel != "TRIM_HORIZON":
            return None
        try:
            at = self._kinesis.get_shard_iterator(StreamName=self._stream, ShardId=lease.shard_id, **where)
            answer = self._kinesis.get_records(ShardIterator=at["ShardIterator"], Limit=1)
        except (BotoCoreError, ClientError):
            return None
        behind_s = answer["MillisBehindLatest"] / 1000
        arrived = [record["ApproximateArrivalTimestamp"].timestamp() for record in answer["Records"]]
        return max([behind_s, *(self._clock() - each for each in arrived)])


def _said(state: ApplicationState, answers: Mapping[str, PageAnswer], at_s: float) -> dict[str, WorkerSaid]:
    """The worker's page if it answers with the right worker id; else its note."""
    said = {}
    for worker, note in state.notes.items():
        stats = answers[worker].stats if worker in answers else None
        if stats is not None and stats.get("worker") == worker:
            said[worker] = WorkerSaid(stats, PAGE, number(stats.get("at")) or at_s)
        else:
            said[worker] = WorkerSaid(note.stats, NOTE, note.at_s)
    return said


def check(look: Snapshot, stream: str) -> None:
    """Check that there is something to show.

    :raises UserError: the application does not exist, or reads another stream.
    """
    state = look.state
    if state.layout == NO_TABLES:
        raise UserError(
            f'there is no lease table "{state.application}". Check --application, AWS_REGION and AWS_ENDPOINT_URL; '
            "an application that has never been started has none"
        )
    if state.binding is not None and state.binding.stream != stream:
        raise UserError(f'application "{state.application}" reads stream "{state.binding.stream}", not "{stream}"')
