"""Records to tune with. They are real ones, because a model's speed depends on its input."""

from __future__ import annotations

import io
import random
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from consumer.aws.clients import Aws
from consumer.aws.stream_reader import payloads, shards
from pipeline.errors import UserError
from pipeline.record import Record

MOST_BYTES = 128 * 1024 * 1024
"""Maximum size of all payloads together; a record may have 10 MiB."""

SEED = 2026
"""The same records are always shuffled into the same order."""


LINES, LENGTHS = "lines", "lengths"
"""The formats of a file: one record per line, or a length of 4 bytes (big-endian) before each record."""

LENGTH_BYTES = 4

STDIN = Path("-")


def from_file(path: Path, count: int, framing: str = LINES) -> list[Record]:
    """Return the first ``count`` records of a file or folder, shuffled; see :func:`payloads_in`."""
    return _mixed(payloads_in(path, count, framing))


def payloads_in(path: Path, count: int, framing: str = LINES) -> list[bytes]:
    """Return the first ``count`` records of a file, as bytes that the model decodes. ``-`` is stdin.

    In a folder each file is one record, in the order of the names; names that begin with a dot are left out.

    :raises UserError: a file cannot be read or has another format, a folder has folders in it, or there are no records.
    """
    try:
        if path.is_dir():
            found = _within(islice(_files(path), count))
        else:
            with _opened(path) as file:
                records = _lines(file) if framing == LINES else _after_their_lengths(path, file)
                found = _within(islice(records, count))
    except OSError as error:
        what = "a file with a record per line, or a folder with a file per record"
        raise UserError(f"{_name(path)}: cannot be read ({error.strerror}). Name {what}") from None
    if not found:
        raise UserError(
            f"{_name(path)}: has no records. Write one record per line, or one file per record into a folder"
        )
    return found


def _name(path: Path) -> str:
    return "standard input" if path == STDIN else str(path)


def _opened(path: Path) -> BinaryIO:
    if path == STDIN:
        return io.BytesIO(sys.stdin.buffer.read(2 * MOST_BYTES))
    return path.open("rb")


def _files(folder: Path) -> Iterator[bytes]:
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if inner := [path.name for path in paths if path.is_dir()]:
        raise UserError(f"{folder}: has folders in it, such as {inner[0]}. Name each folder that has files of records")
    for path in paths:
        if path.is_file():
            yield path.read_bytes()


def _lines(file: BinaryIO) -> Iterator[bytes]:
    return (line for line in map(bytes.strip, file) if line)


def _after_their_lengths(path: Path, file: BinaryIO) -> Iterator[bytes]:
    while prefix := file.read(LENGTH_BYTES):
        length, at = int.from_bytes(prefix, "big"), file.tell() - len(prefix)
        data = file.read(length) if len(prefix) == LENGTH_BYTES and length <= MOST_BYTES else b""
        if len(prefix) < LENGTH_BYTES or len(data) < length:
            raise UserError(
                f"{_name(path)}: at byte {at} there is no record with a length prefix of {LENGTH_BYTES} bytes "
                "(big-endian). "
                "Write each record like that, or leave out --framing for one record per line"
            )
        yield data


def from_stream(stream: str, count: int) -> list[Record]:
    """Return about ``count`` of the oldest records on the stream, equally many from each shard if possible.

    Only reads, without KCL: takes no lease and writes no checkpoint.
    :raises UserError: the stream does not exist, cannot be read, or has no records.
    """
    aws = Aws()
    kinesis: Any = aws.client("kinesis")
    found = aws.ask(f"stream {stream}", lambda: _of_shards(kinesis, stream, count))
    if not found:
        raise UserError(f"stream {stream}: has no records to tune with. Put some on it, or use a file with --records")
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
    """Shuffle the records, so that every part of them is similar."""
    random.Random(SEED).shuffle(found)
    return [Record("tuned", data, None, str(number), 0, 0) for number, data in enumerate(found)]
