"""Golden records: the records that an old and a new model answer both."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from consumer.aws.record_lines import payload_of
from consumer.tuning.samples import payloads_in
from consumer.tuning.trial import SHARD_ID
from pipeline.errors import UserError
from pipeline.record import Record

NAME = "golden.jsonl"
"""The file beside the configuration that is used if none is given."""

OF_TAIL = {"shard_id", "sequence_number", "sub_sequence_number", "arrived_at"}
"""Fields of a line that ``penstock tail`` prints, besides the payload."""


@dataclass(frozen=True, slots=True)
class Golden:
    """``records``: no two of one position. ``are_known``: whether they have the positions that they have on the stream,
    so that a table may have rows of them.
    """

    records: Sequence[Record]
    are_known: bool


def golden(path: Path, count: int) -> Golden:
    """The first ``count`` records of a file.

    Its lines are payloads, or what ``penstock tail`` prints if the first line is. A folder has a payload in each file.

    :raises UserError: it cannot be read, has no records, or has lines of both kinds.
    """
    lines = payloads_in(path, count)
    if _fields(lines[0]) is None:
        now_ms = int(time.time() * 1000)
        return Golden([Record(SHARD_ID, data, "", str(place), 0, now_ms) for place, data in enumerate(lines, 1)], False)
    found: dict[tuple[str, str, int], Record] = {}
    for number, line in enumerate(lines, 1):
        record = _of_tail(path, number, line)
        found.setdefault((record.shard_id, record.sequence, record.sub), record)
    return Golden(list(found.values()), True)


def _of_tail(path: Path, number: int, line: bytes) -> Record:
    fields = _fields(line)
    try:
        if fields is None:
            raise ValueError(f"it has not the fields {', '.join(sorted(OF_TAIL))}")
        data, key = payload_of(line)
        arrived_ms = int(datetime.fromisoformat(fields["arrived_at"]).timestamp() * 1000)
        sequence, sub = int(fields["sequence_number"]), int(fields["sub_sequence_number"])
        return Record(str(fields["shard_id"]), data, key, str(sequence), sub, arrived_ms)
    except (ValueError, TypeError) as error:
        problem = f"{path}: line {number} is not a record as `penstock tail` prints it, but the first line is: {error}"
        raise UserError(f"{problem}. Use lines of one kind") from None


def _fields(line: bytes) -> dict[str, Any] | None:
    """The line's fields if it is one that ``penstock tail`` printed, else None."""
    try:
        found = msgspec.json.decode(line)
    except (ValueError, RecursionError):  # a payload may be anything
        return None
    return found if isinstance(found, dict) and found.keys() >= OF_TAIL else None
