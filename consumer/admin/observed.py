"""What CloudWatch and the workers know, for the estimates of plans. What cannot be read is unknown."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from consumer.admin.estimate import Pace, pace_of
from consumer.aws.shard_metrics import arrived
from consumer.leases.state import read_state
from pipeline.errors import PenstockError

if TYPE_CHECKING:
    from consumer.aws.clients import Aws


def arrived_between(aws: Aws, stream: str, since_ms: int, until_ms: int) -> tuple[int, int] | None:
    """Records and bytes that were put on the stream, in whole minutes; None if CloudWatch does not know."""
    try:
        found = arrived(aws.client("cloudwatch"), stream, since_ms / 1000, until_ms / 1000)
    except (BotoCoreError, ClientError):
        return None
    return None if found is None else (round(found.records), round(found.bytes))


def pace(aws: Aws, application: str) -> Pace:
    """What the application's tasks do when they are busy, by their notes beside the leases."""
    try:
        state = read_state(aws.client("dynamodb"), application)
    except (BotoCoreError, ClientError, PenstockError):
        return Pace()
    return pace_of([(note.at_s, note.stats) for note in state.notes.values()], time.time())
