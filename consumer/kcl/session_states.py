"""The states of a shard session, and which message leads from one to another. Pure."""

from __future__ import annotations

import enum

from consumer.kcl.protocol import (
    Initialize,
    LeaseLost,
    Message,
    ProcessRecords,
    ShardEnded,
    ShutdownRequested,
)


class SessionState(enum.Enum):
    """The state of a shard session."""

    NEW = "new"
    READING = "reading"
    ENDED = "ended"
    DRAINED = "drained"
    LOST = "lost"


class Step(enum.Enum):
    """What a session does for a message."""

    OPEN = "open"
    ADMIT = "admit"
    END = "end"
    DRAIN = "drain"
    DROP = "drop"


TRANSITIONS: dict[tuple[SessionState, type[Message]], tuple[Step, SessionState]] = {
    (SessionState.NEW, Initialize): (Step.OPEN, SessionState.READING),
    (SessionState.READING, ProcessRecords): (Step.ADMIT, SessionState.READING),
    (SessionState.READING, ShardEnded): (Step.END, SessionState.ENDED),
    (SessionState.READING, ShutdownRequested): (Step.DRAIN, SessionState.DRAINED),
    (SessionState.READING, LeaseLost): (Step.DROP, SessionState.LOST),
    (SessionState.DRAINED, ShardEnded): (Step.END, SessionState.ENDED),
    (SessionState.DRAINED, LeaseLost): (Step.DROP, SessionState.LOST),
    (SessionState.LOST, LeaseLost): (Step.DROP, SessionState.LOST),
    (SessionState.LOST, ProcessRecords): (Step.DROP, SessionState.LOST),
    (SessionState.LOST, ShutdownRequested): (Step.DROP, SessionState.LOST),
    (SessionState.LOST, ShardEnded): (Step.DROP, SessionState.LOST),
}
"""The transitions of a session. Messages in state LOST come from a worker that was frozen: a checkpoint was refused
before KCL noticed the loss, and KCL meanwhile asked for a drain or ended the shard. A pair that is missing here is a
bug of ours or of KCL, and ends the task."""

OVER = {SessionState.ENDED, SessionState.DRAINED, SessionState.LOST}

RESPONSE_FOR: dict[type[Message], str] = {
    Initialize: "initialize",
    ProcessRecords: "processRecords",
    ShardEnded: "shardEnded",
    ShutdownRequested: "shutdownRequested",
    LeaseLost: "leaseLost",
}
