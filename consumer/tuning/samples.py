"""Records to tune with: real ones, for what a model needs depends on what it is given."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from consumer.aws.clients import Aws
from consumer.aws.stream_reader import payloads, shards
from pipeline.errors import UserError
from pipeline.record import Record

MOST_BYTES = 128 * 1024 * 1024
"""Of all payloads together: records may have 10 MiB each."""

SEED = 2026
"""The same records are mixed alike every time."""


def from_file(path: Path, count: int) -> list[Record]:
    """A record for each line that is not empty, as it stands: JSON, or whatever the model decodes.

    ``UserError`` if the file cannot be read or has no lines.
    """
    try:
        with path.open("rb") as lines:
            found = _within(islice((line for line in map(bytes.strip, lines) if line), count))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Name a file with a record per line") from None
    if not found:
        raise UserError(f"{path}: has no records. Write one per line")
    return _mixed(found)


def from_stream(stream: str, count: int) -> list[Record]:
    """About ``count`` of the oldest records on the stream, as many of each shard as of the others, where they are.

    Reads only, and beside KCL: no lease, no checkpoint. ``UserError`` if there is no such stream, no access, no record.
    """
    aws = Aws()
    kinesis: Any = aws.client("kinesis")
    found = aws.ask(f"stream {stream}", lambda: _of_shards(kinesis, stream, count))
    if not found:
        raise UserError(f"stream {stream}: has no records to tune with. Put some on it, or name a file with --records")
    return _mixed(found)


def _of_shards(kinesis: Any, stream: str, count: int) -> list[bytes]:
    found: list[bytes] = []
    names = shards(kinesis, stream)
    for place, shard_id in enumerate(names):
        share = -(-(count - len(found)) // (len(names) - place))
        if share < 1:
            break
        found += _within(payloads(kinesis, stream, shard_id, share), MOST_BYTES // len(names))
    return found


def _within(payloads: Iterable[bytes], most_bytes: int = MOST_BYTES) -> list[bytes]:
    found: list[bytes] = []
    size = 0
    for data in payloads:
        found.append(data)
        size += len(data)
        if size > most_bytes:
            break
    return found


def _mixed(found: list[bytes]) -> list[Record]:
    """In an order that says nothing, so that every stretch of them is like every other."""
    random.Random(SEED).shuffle(found)
    return [Record("tuned", data, "", str(number), 0, 0) for number, data in enumerate(found)]
