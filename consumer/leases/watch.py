"""While a task runs: finds shards that are not read, makes missing leases, and checks that the stream is the same one.

Cost: every ``LOOK_S`` a scan of the lease table, a ListShards and one item, which KCL's leader reads every two seconds;
every ``CHECK_S`` one DescribeStreamSummary. A failed check is repeated at the next interval.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from botocore.exceptions import BotoCoreError, ClientError

from consumer.aws import shards
from consumer.leases import expiry
from consumer.leases.binding import Binding, OtherStream, at, bind, find, refusal
from consumer.leases.leases import Lease, read
from consumer.leases.seed import holes, seed
from consumer.leases.tables import items, leader
from consumer.leases.unread import StreamObservation, Unread, UnreadWatch
from pipeline.errors import Fatal

if TYPE_CHECKING:
    from consumer.aws.clients import Aws
    from consumer.config.settings import StreamSettings
    from pipeline.metrics.shards import ShardMetrics
    from pipeline.outages import Outages
    from pipeline.record import Position

log = logging.getLogger("leases")

LOOK_S, FIRST_LOOK_S = 10.0, 1.5
"""Seconds between two checks, and between those before the task is ready."""

CHECK_S = 60.0
"""Seconds between two calls of DescribeStreamSummary; AWS allows an account 20 a second."""

PROBE_S = 60.0

HOUR_MS = 3_600_000
NEARLY = 0.8
"""Share of the retention from which the lag of a shard is reported, before records expire unread."""


class ShardReader(Protocol):
    """The part of a shard session that the watch needs."""

    @property
    def shard_id(self) -> str:
        """Kinesis' id of the shard."""
        ...

    @property
    def over(self) -> bool:
        """The session has ended."""
        ...

    @property
    def hears(self) -> bool:
        """Whether KCL has delivered a result of a read, even an empty one."""
        ...

    @property
    def began_after(self) -> Position | None:
        """The checkpoint at which it started; None until it is known, or if there is none."""
        ...

    def lag_at(self, now: float) -> float:
        """How far it is behind, in ms."""
        ...


class LeaseWatch:
    """The watch of one task. ``unread`` is the result of the last check; ``red`` has what ``/healthz`` fails for.

    ``stream`` is what :func:`consumer.leases.joining.join` returned. ``sessions``: those of this task.
    """

    def __init__(
        self,
        stream: StreamSettings,
        stream_created_s: int,
        me: str,
        after_s: float,
        aws: Aws,
        outages: Outages,
        metrics: ShardMetrics,
        sessions: Callable[[], Iterable[ShardReader]],
    ) -> None:
        self.unread = Unread()
        self.red: dict[str, str] = {}
        """Reasons of one line each, by shard or for "stream"."""
        self._stream = stream
        self._created_s = stream_created_s
        self._after_s = after_s
        self._aws = aws
        self._metrics = metrics
        self._sessions = sessions
        self._watch = UnreadWatch(me, after_s)
        self._gone_since: float | None = None
        self._had_leases = False
        self._checked_s = -CHECK_S
        self._retention_ms = 24 * HOUR_MS
        self._probed: dict[str, tuple[float, str]] = {}
        self._told: dict[str, str] = {}
        self._looked_back: WeakSet[ShardReader] = WeakSet()
        self._handoffs: dict[tuple[str, str, str], float] = {}
        self._looking = outages.part("leases")
        self._missing = outages.part("shards")
        self._expiring = outages.part("retention")

    async def watch(self) -> None:
        """Run until cancelled.

        :raises OtherStream: the stream was deleted and created again.
        :raises Fatal: the lease table was deleted, or another worker has started the application elsewhere.
        """
        while True:
            pause_s = FIRST_LOOK_S if self.unread.unready else LOOK_S
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))
            try:
                await self.step(time.monotonic())
            except (BotoCoreError, ClientError) as error:
                self._failed(error, time.monotonic())

    async def step(self, now: float) -> None:
        """Check once, and act on the result."""
        look = await asyncio.to_thread(self._observe, now)
        self._looking.worked()
        self._gone_since = None
        sessions = [session for session in self._sessions() if session.shard_id and not session.over]
        hearing = {session.shard_id for session in sessions if session.hears}
        look = replace(look, hearing=hearing)
        pending = {(each.shard_id, each.draining_owner, each.owner) for each in look.leases.values()}
        self._handoffs = {key: self._handoffs.get(key, now) for key in pending if key[1]}
        self.unread = self._watch.look(look, now)
        self._tell(await asyncio.to_thread(self._probe, look, now))
        for lease in self.unread.expired:
            self._metrics.expired(1)
            log.error(
                "%s expired before it was read to its end: an unknown number of records after %s are lost",
                lease.shard_id,
                lease.checkpoint or lease.sentinel,
            )
        await asyncio.to_thread(self._look_back, sessions)
        self._foresee({session.shard_id: session.lag_at(now) for session in sessions})

    def handoffs_s(self, now: float) -> dict[str, float]:
        """By shard: seconds for which one worker has drained it for another, as seen by this task."""
        return {shard_id: round(now - since_s, 1) for (shard_id, _, _), since_s in self._handoffs.items()}

    # -- in a thread

    def _observe(self, now: float) -> StreamObservation:
        dynamodb, kinesis = self._aws.client("dynamodb"), self._aws.client("kinesis")
        application, stream = self._stream.application, self._stream.name
        known = shards.known(kinesis, stream)
        found = read(dynamodb, application)
        if self._had_leases and not found and items(dynamodb, application) is None:
            raise Fatal(
                f'the lease table "{application}" was deleted. Restore it from a backup. A worker that starts without '
                "it begins at stream.start again: what the Parquet table has is skipped"
            )
        self._had_leases = self._had_leases or bool(found)
        lacking = holes(known, found)
        strange = [lease for lease in found if lease.ended and lease.shard_id in known and known[lease.shard_id].open]
        if lacking or strange or now - self._checked_s >= CHECK_S:
            self._check()
            self._checked_s = now
        if lacking and (made := seed(dynamodb, kinesis, application, stream, self._stream.start)):
            log.warning("%s had no lease: created one that starts at %s", ", ".join(made), self._stream.start)
            found = read(dynamodb, application)
        return StreamObservation(known, {lease.shard_id: lease for lease in found}, (), leader(dynamodb, application))

    def _check(self) -> None:
        """Check that the stream is still the same one, and that the application still belongs to it."""
        summary = self._aws.client("kinesis").describe_stream_summary(StreamName=self._stream.name)
        description = summary["StreamDescriptionSummary"]
        self._retention_ms = int(description["RetentionPeriodHours"]) * HOUR_MS
        created_s = int(description["StreamCreationTimestamp"].timestamp())
        ours = Binding(self._stream.name, self._created_s, self._stream.start, "")
        if created_s != self._created_s:
            present = Binding(self._stream.name, created_s, self._stream.start, "")
            raise OtherStream(refusal(self._stream.application, ours, present))
        dynamodb = self._aws.client("dynamodb")
        try:
            bound = find(dynamodb, self._stream.application)
        except dynamodb.exceptions.ResourceNotFoundException:
            return  # KCL has not made its tables yet
        if bound is None:
            name, application, start = self._stream.name, self._stream.application, self._stream.start
            kinesis, now = self._aws.client("kinesis"), datetime.now(UTC)
            bound = bind(dynamodb, kinesis, application, name, self._created_s, start, now)
        if bound is not None and not bound.same_stream(ours):
            raise OtherStream(refusal(self._stream.application, bound, ours))
        if bound is not None and bound.start != self._stream.start:
            raise Fatal(
                f"another worker has started application {self._stream.application} at {bound.start}, "
                f"not at {self._stream.start}. Restart this worker"
            )

    def _probe(self, look: StreamObservation, now: float) -> dict[str, str]:
        """The errors of Kinesis for those of this task's shards that KCL does not start to read."""
        asked = {}
        for shard_id in set(self.unread.refused) & self.unread.told.keys():
            at_s, said = self._probed.get(shard_id, (-PROBE_S, ""))
            if now - at_s >= PROBE_S:
                at_s, said = now, self._refusal(look.leases[shard_id])
            asked[shard_id] = (at_s, said)
        self._probed = asked
        return {shard_id: said for shard_id, (_, said) in asked.items() if said}

    def _refusal(self, lease: Lease) -> str:
        where: dict[str, object] = {"ShardIteratorType": "TRIM_HORIZON"}
        if lease.checkpoint is not None:
            where = {
                "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
                "StartingSequenceNumber": str(lease.checkpoint.sequence),
            }
        kinesis = self._aws.client("kinesis")
        try:
            kinesis.get_shard_iterator(StreamName=self._stream.name, ShardId=lease.shard_id, **where)
        except (BotoCoreError, ClientError) as error:
            return str(error)
        return ""

    def _look_back(self, sessions: Iterable[ShardReader]) -> None:
        """Check once per session whether records after the checkpoint at which it started have expired."""
        kinesis = self._aws.client("kinesis")
        for session in sessions:
            if session in self._looked_back or session.began_after is None:
                continue
            try:
                first = expiry.oldest(kinesis, self._stream.name, session.shard_id)
            except (BotoCoreError, ClientError) as error:  # such as throttled beside KCL: the next check tries again
                log.debug("%s: its oldest record cannot be read: %s", session.shard_id, error)
                continue
            self._looked_back.add(session)
            if first and expiry.missed(session.began_after, first, self._retention_ms / 1000, time.time()):
                self._metrics.expired(1)
                log.error(
                    "%s: an unknown number of records after %s expired before they were read: those that arrived "
                    "before %s",
                    session.shard_id,
                    session.began_after,
                    at(first.arrived_s),
                )

    # -- what is told

    def _tell(self, refusals: dict[str, str]) -> None:
        def full(reasons: Iterable[tuple[str, str]]) -> dict[str, str]:
            return {shard: f"{reason}: {refusals[shard]}" if shard in refusals else reason for shard, reason in reasons}

        told, red = full(self.unread.told.items()), full(self.unread.red.items())
        for shard_id in told.keys() - self._told.keys():
            log.warning("%s", told[shard_id])
        for shard_id in red.keys() - self.red.keys():
            log.error("%s", red[shard_id])
        self._told, self.red = told, red
        self._metrics.unread(len(told))
        if early := [told[shard_id] for shard_id in told if shard_id not in red]:
            self._missing.failed("; ".join(early))
        else:
            self._missing.worked()

    def _foresee(self, lags_ms: dict[str, float]) -> None:
        """Warn about records that will expire unread while there is still time to act."""
        used = {shard_id: lag_ms / self._retention_ms for shard_id, lag_ms in lags_ms.items()}
        self._metrics.retention_used(max(used.values(), default=0.0))
        late = {shard_id: share for shard_id, share in used.items() if share >= NEARLY}
        if not late:
            self._expiring.worked()
            return
        hours = self._retention_ms / HOUR_MS
        reason = ", ".join(
            f"{shard_id} is {lags_ms[shard_id] / HOUR_MS:.1f} h behind; the stream retains records for {hours:g} h"
            for shard_id in sorted(late)
        )
        if not self._expiring.failing:
            log.error("%s: records will expire before they are read. Add tasks, or raise the retention", reason)
        self._expiring.failed(f"{reason}: records will expire before they are read")

    def _failed(self, error: Exception, now: float) -> None:
        reason = f"cannot check for unread shards: {error}"
        self._checked_s = -CHECK_S
        if _is_no_stream(error):
            reason = f"stream {self._stream.name} no longer exists"
            if self._gone_since is None:
                self._gone_since = now
                log.error("%s", reason)
            self.unread = Unread(unready=reason)
            if now - self._gone_since >= self._after_s:
                self.red = {"stream": f"{reason} (for {now - self._gone_since:.0f} s)"}
                self._looking.worked()  # it is told in red
                return
        elif not self._looking.failing:
            log.warning("%s; retrying", reason)
        self._looking.failed(reason)


def _is_no_stream(error: Exception) -> bool:
    """Whether Kinesis has said that there is no such stream. DynamoDB says the same of a table."""
    return (
        isinstance(error, ClientError)
        and error.response.get("Error", {}).get("Code") == "ResourceNotFoundException"
        and error.operation_name in ("ListShards", "DescribeStreamSummary")
    )
