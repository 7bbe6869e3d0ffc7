"""Plans the calls that change a stream's shards as an operator asks, or explains why it cannot be done. Pure.

The limits are those of Kinesis's API reference: only a stream in provisioned mode that is ACTIVE can be changed; the
others are in :mod:`consumer.admin.shards.scaling` and :mod:`consumer.admin.shards.split_merge`.

Plans have no state: called again after an interruption, at any step, :func:`plan` returns the remaining steps.
"""

from __future__ import annotations

from consumer.admin.shards.changes import Refusal, ReshardPlan, ReshardRequest, Scale, Split, StreamState
from consumer.admin.shards.keyspace import open_pieces
from consumer.admin.shards.scaling import scale
from consumer.admin.shards.split_merge import merge, split
from consumer.aws.cli_commands import aws_command


def plan(state: StreamState, request: ReshardRequest) -> ReshardPlan | Refusal:
    """The steps that are left from ``state`` to the requested change."""
    if (why := _not_now(state)) is not None:
        return Refusal("refused", why)
    now = open_pieces(state.shards)
    if isinstance(request, Scale):
        return scale(state, now, request.count)
    if isinstance(request, Split):
        return split(state, now, request)
    return merge(state, now, request)


def _not_now(state: StreamState) -> str | None:
    if state.mode != "PROVISIONED":
        mode = "StreamMode=PROVISIONED"
        return (
            f"stream {state.stream} is in on-demand mode: Kinesis scales it, and refuses to split, merge or scale its "
            "shards by hand. To do it yourself, first switch the stream to provisioned mode "
            + aws_command("kinesis", "UpdateStreamMode", StreamARN=state.arn, StreamModeDetails=mode)
        )
    if state.status != "ACTIVE":
        return (
            f"stream {state.stream} is {state.status}, and Kinesis changes only the shards of an ACTIVE stream. Try "
            "again when it is ACTIVE; with --execute, the command waits for it"
        )
    return None
