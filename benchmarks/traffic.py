"""KCL's side of the protocol from a recording: a process that speaks for every shard of a task, without a JVM.

    python -m benchmarks.traffic SOCKET FOLDER EVERY_S

Each shard has a file of ``processRecords`` lines in FOLDER, and a thread that sends them as KCL does: one message at a
time, with checkpoints in between; the next one after the status has come and EVERY_S have passed since the last. Then
the shard ends. It prints, as JSON, when each message of each shard was sent and when its status came, and when all had
ended (monotonic seconds).
"""

from __future__ import annotations

import base64
import random
import socket
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader
from pathlib import Path
from typing import Any

import orjson

DATA_BYTES = 900
FIRST_SEQUENCE = 49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898
"""A sequence number of 56 digits, as Kinesis's are."""

ARRIVED_MS = 1_700_000_000_000

Beat = tuple[float, float]
"""When a message was sent, and when its status came."""


def record(folder: Path, *, shards: int, messages: int, records: int, seed: int = 4) -> int:
    """Write a recording: for each shard this many messages of this many records. Return the number of records."""
    random_ = random.Random(seed)  # nothing is secret here
    data = [base64.b64encode(random_.randbytes(DATA_BYTES)).decode() for _ in range(max(records, 64))]
    for shard in range(shards):
        sequence = FIRST_SEQUENCE + shard * 10**40
        with (folder / f"shardId-{shard:012}").open("wb") as file:
            for _ in range(messages):
                rows = [_row(sequence + row, data[row], random_) for row in range(records)]
                sequence += records
                file.write(orjson.dumps({"action": "processRecords", "records": rows, "millisBehindLatest": 0}) + b"\n")
    return shards * messages * records


def _row(sequence: int, data: str, random_: random.Random) -> Mapping[str, Any]:
    """One record as KCL's MultiLang writes it. Keys differ from record to record, as with most producers."""
    return {
        "action": "record",
        "data": data,
        "partitionKey": str(uuid.UUID(int=random_.getrandbits(128))),
        "sequenceNumber": str(sequence),
        "approximateArrivalTimestamp": ARRIVED_MS,
        "subSequenceNumber": 0,
    }


class Speaker:
    """One shard's KCL."""

    def __init__(self, socket_path: str, shard: Path, every_s: float) -> None:
        self._shard = shard
        self._every_s = every_s
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(socket_path)
        if (token := Path(f"{socket_path}.token")).exists():
            self._socket.sendall(token.read_bytes())
        self._answers: BufferedReader = self._socket.makefile("rb")

    def speak(self) -> list[Beat]:
        """Send everything that is recorded, then the end of the shard."""
        self._say(_line(action="initialize", shardId=self._shard.name, sequenceNumber="TRIM_HORIZON"))
        beats = []
        due = time.monotonic()
        with self._shard.open("rb") as lines, self._socket:
            for line in lines:
                time.sleep(max(0.0, due - time.monotonic()))
                beats.append(self._say(line))
                due = max(due, beats[-1][0]) + self._every_s
            self._say(_line(action="shardEnded"))
        return beats

    def _say(self, line: bytes) -> Beat:
        """Send a message, answer checkpoints, and return when its status has come."""
        said = time.monotonic()
        self._socket.sendall(line)
        for answer in self._answers:
            fields = orjson.loads(answer)
            if fields["action"] == "status":
                return said, time.monotonic()
            self._socket.sendall(_line(**fields, error=None))
        raise ConnectionError(f"the host has left {self._shard.name}")


def _line(**fields: Any) -> bytes:
    return orjson.dumps(fields) + b"\n"


def main(arguments: Sequence[str]) -> None:
    """Play the recording and print the times: SOCKET FOLDER EVERY_S."""
    socket_path, folder, every_s = arguments
    shards = sorted(Path(folder).iterdir())
    speakers = [Speaker(socket_path, shard, float(every_s)) for shard in shards]
    with ThreadPoolExecutor(len(speakers)) as threads:
        beats = list(threads.map(Speaker.speak, speakers))
    by_shard = {shard.name: each for shard, each in zip(shards, beats, strict=True)}
    sys.stdout.buffer.write(orjson.dumps({"beats": by_shard, "ended_s": time.monotonic()}))


if __name__ == "__main__":
    main(sys.argv[1:])
