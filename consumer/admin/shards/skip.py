"""Skips a record: the next task that gets its shard turns the record into a dead letter and continues after it.

The request is noted on the lease (:mod:`consumer.poison.doubt`). A worker carries it out, because only a worker can
process the records before it, add the dead letter to the table's chain, and checkpoint what is durable. The note is one
conditional write, which also takes the lease from its owner: the next owner sees the note.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from consumer.admin.shards.changes import Refusal
from consumer.aws import stream_reader
from consumer.aws.record_lines import StreamRecord
from consumer.poison.doubt import Skip
from consumer.poison.notes import HOLDER, LeaseNotes, Noted
from pipeline.record import LAST_SUB, Position

MOST_BETWEEN = 20_000
"""Maximum number of Kinesis records counted between the checkpoint and the record; if there are more, it is unknown."""


@dataclass(frozen=True, slots=True)
class Found:
    """The record, as read from the stream. ``users``: number of user records, if it is an aggregate."""

    shard_id: str
    sequence: int
    raw: Any
    users: int | None


@dataclass(frozen=True, slots=True)
class SkipPlan:
    """The record to skip. ``between``: Kinesis records between the checkpoint and it; None if unknown."""

    noted: Noted
    skip: Skip
    found: Found
    between: int | None = None

    @property
    def owner(self) -> str:
        """The present owner of the lease, which loses it; empty if there is none."""
        return self.noted.lease.owner


def plan_skip(noted: Noted | None, found: Found | None, shard_id: str, at: Position, why: str) -> SkipPlan | Refusal:
    """Plan a skip. Pure. ``noted``: the shard's lease, ``found``: the record, each None if it does not exist.

    ``at.sub`` is LAST_SUB for the whole record."""
    if noted is None:
        return Refusal(
            "mistake", f"the application has no lease for {shard_id}. penstock leases list shows those it has"
        )
    lease = noted.lease
    if found is None:
        return Refusal(
            "mistake", f"{shard_id} has no record {at.sequence}, or not any more. penstock tail shows records"
        )
    if lease.sentinel == "SHARD_END":
        return Refusal("nothing", f"{shard_id} is read to its end already")
    if lease.checkpoint is not None and lease.checkpoint.sequence >= at.sequence:
        return Refusal("nothing", f"the checkpoint of {shard_id} is at {lease.checkpoint}, past that record already")
    if noted.doubt.skipped(at) is not None and noted.doubt.doubtful:
        return Refusal("nothing", f"the next task that reads {shard_id} already skips that record")
    if at.sub != LAST_SUB and at.sub >= (found.users or 1):
        return Refusal("mistake", f"record {at.sequence} has no user record {at.sub}: it has {found.users or 1}")
    if (why_not := _not_now(noted)) is not None:
        return Refusal("refused", why_not)
    return SkipPlan(noted, Skip(at, why), found)


def _not_now(noted: Noted) -> str | None:
    lease = noted.lease
    if lease.sentinel == "LATEST":
        return (
            f"the application has no checkpoint in {lease.shard_id} yet and starts it at LATEST: the next task starts "
            "after that record anyway. Start a worker"
        )
    if lease.holder.startswith(HOLDER):
        reader = lease.holder.removeprefix(HOLDER)
        return f"{lease.shard_id} is being read carefully by {reader}. Try again when it is done"
    if lease.draining_owner:
        return f"{lease.shard_id} is being handed over to {lease.owner}. Try again in a few seconds"
    return None


def find(kinesis: Any, stream: str, shard_id: str, sequence: int) -> Found | None:
    """The record with this number; None if the shard has none. Raises botocore's errors."""
    raw = stream_reader.at_sequence(kinesis, stream, shard_id, str(sequence))
    if raw is None:
        return None
    aggregate = stream_reader.is_aggregate(raw)
    return Found(shard_id, sequence, raw, sum(1 for _ in stream_reader.users(raw)) if aggregate else None)


def between(kinesis: Any, stream: str, shard_id: str, after: int, before: int) -> int | None:
    """Number of Kinesis records between two; None if there are more than :data:`MOST_BETWEEN`."""
    count = 0
    for page in stream_reader.behind(kinesis, stream, shard_id, str(after)):
        for record in page:
            if int(record["SequenceNumber"]) >= before:
                return count
            count += 1
        if count > MOST_BETWEEN:
            return None
    return count


def shown(found: Found, sub: int, most: int = 3) -> list[StreamRecord]:
    """The record for printing; of an aggregate, the user record ``sub`` or the first few."""
    arrived_ms = round(found.raw["ApproximateArrivalTimestamp"].timestamp() * 1000)
    records = []
    for place, (key, data) in enumerate(stream_reader.users(found.raw)):
        if sub in {place, LAST_SUB}:
            records.append(StreamRecord(found.shard_id, Position(found.sequence, place), key, arrived_ms, data))
        if len(records) >= most:
            break
    return records


def plan_withdrawal(noted: Noted | None, shard_id: str, at: Position | None) -> tuple[Skip, ...] | Refusal:
    """Return the requests of a shard to withdraw: that for the record at ``at``, or all of them. Pure."""
    if noted is None:
        return Refusal(
            "mistake", f"the application has no lease for {shard_id}. penstock leases list shows those it has"
        )
    pending = noted.doubt.skips
    found = tuple(skip for skip in pending if at is None or skip.at == at)
    if not found:
        others = f"; pending: {'; '.join(map(str, pending))}" if pending else ""
        return Refusal("nothing", f"no such skip is pending in {shard_id}: it was never requested, or is done{others}")
    if noted.lease.holder.startswith(HOLDER):
        reader = noted.lease.holder.removeprefix(HOLDER)
        return Refusal("refused", f"{reader} reads {shard_id} carefully, and may be skipping the record already")
    return found


def withdraw(notes: LeaseNotes, noted: Noted, withdrawn: tuple[Skip, ...]) -> bool:
    """Remove the requests from the note, in a conditional write. False if the note changed in the meantime."""
    return notes.write(noted.shard_id, noted.text, noted.doubt.without_skips(withdrawn))


def carry_out(notes: LeaseNotes, planned: SkipPlan) -> bool:
    """Write the note, and free the lease. False if the lease got another owner in the meantime: plan again."""
    return notes.pass_over(planned.noted, planned.noted.doubt.with_skip(planned.skip))
