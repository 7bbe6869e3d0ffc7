"""Golden records: records that both the old and the new model answer."""

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
"""The file beside the configuration that is used by default."""

OF_TAIL = {"shard_id", "sequence_number", "sub_sequence_number", "arrived_at"}
"""The fields of a line of ``penstock tail``, besides the payload."""


@dataclass(frozen=True, slots=True)
class Golden:
    """``records``: all with different positions. ``are_known``: whether these are their positions on the stream, so
    that a table may have their rows."""

    records: Sequence[Record]
    are_known: bool


def golden(path: Path, count: int) -> Golden:
    """Read the first ``count`` records of a file. If its first line is one of ``penstock tail``, all lines must be;
    otherwise each line is a payload. In a folder, each file is a payload.

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
            raise ValueError(f"it lacks some of the fields {', '.join(sorted(OF_TAIL))}")
        data, key = payload_of(line)
        arrived_ms = int(datetime.fromisoformat(fields["arrived_at"]).timestamp() * 1000)
        sequence, sub = int(fields["sequence_number"]), int(fields["sub_sequence_number"])
        return Record(str(fields["shard_id"]), data, key, str(sequence), sub, arrived_ms)
    except (ValueError, TypeError) as error:
        problem = f"{path}: line {number} is not a record as `penstock tail` prints it, but the first line is: {error}"
        raise UserError(f"{problem}. Use lines of one kind") from None


def _fields(line: bytes) -> dict[str, Any] | None:
    """Return the line's fields if ``penstock tail`` printed it, else None."""
    try:
        found = msgspec.json.decode(line)
    except (ValueError, RecursionError):  # a payload may be anything
        return None
    return found if isinstance(found, dict) and found.keys() >= OF_TAIL else None
