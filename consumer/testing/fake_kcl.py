"""KCL's side of the protocol as a fake: it speaks, it waits for its ``status``, it rules on checkpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pybase64

from consumer.kcl.session import Gone
from pipeline.record import Position

CHECKPOINTS_DURING = frozenset({"processRecords", "shardEnded", "shutdownRequested"})
"""While KCL waits for the status of one of these it takes checkpoints, and at no other time."""


class ProtocolBroken(AssertionError):
    """The host said what KCL does not take. The real one ends its JVM over it, or is silent; a test should fail."""


def row(
    sequence: int, data: bytes = b"{}", sub: int = 0, key: str | None = "key", arrived_ms: int = 1
) -> dict[str, Any]:
    """One record as MultiLang writes it; an aggregate is one, with sub-sequence number 0."""
    return {
        "action": "record",
        "data": pybase64.b64encode(data).decode(),
        "partitionKey": key,
        "sequenceNumber": str(sequence),
        "subSequenceNumber": sub,
        "approximateArrivalTimestamp": arrived_ms,
    }


class FakeKcl:
    """The JVM at the other end of a bridge, for one shard.

    ``refusals`` are the errors that the next checkpoints get, by the name of KCL's exception. Whatever breaks the
    protocol raises :class:`ProtocolBroken` where the host wrote it.
    """

    def __init__(self) -> None:
        self.checkpoints: list[Position | None] = []
        self.refusals: list[str] = []
        self.answered: list[str] = []
        self.asked = ""
        """The action that has not had its status yet, if any."""
        self._to_host: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._status = asyncio.Event()

    # -- the host's end

    async def read(self) -> bytes:
        line = await self._to_host.get()
        if line is None:
            raise Gone
        return line

    async def write(self, line: bytes) -> None:
        message = orjson.loads(line)
        if message["action"] == "status":
            if message["responseFor"] != self.asked:
                raise ProtocolBroken(f"a status for {message['responseFor']!r}, and {self.asked!r} was asked")
            self.asked = ""
            self.answered.append(message["responseFor"])
            self._status.set()
        elif self.asked not in CHECKPOINTS_DURING:
            raise ProtocolBroken(f"a checkpoint while {self.asked!r} was asked")
        else:
            self._rule(message)

    def _rule(self, message: dict[str, Any]) -> None:
        error = self.refusals.pop(0) if self.refusals else None
        if error is None:
            self.checkpoints.append(position_of(message))
        self._say({**message, "error": error})

    # -- the test's end

    def _say(self, message: dict[str, Any]) -> None:
        self._to_host.put_nowait(orjson.dumps(message) + b"\n")

    async def say(self, action: str, **fields: Any) -> None:
        """Send a message and return once it is answered by a status."""
        self.begin(action, **fields)
        await self.answer()

    def begin(self, action: str, **fields: Any) -> None:
        """Send a message and do not wait."""
        self.asked = action
        self._status.clear()
        self._say({"action": action, **fields})

    async def answer(self) -> None:
        await self._status.wait()

    async def initialize(self, shard_id: str, sequence: str = "TRIM_HORIZON", sub: int = 0) -> None:
        await self.say("initialize", shardId=shard_id, sequenceNumber=sequence, subSequenceNumber=sub)

    async def process(self, rows: Sequence[dict[str, Any]], behind_ms: int = 0) -> None:
        await self.say("processRecords", records=list(rows), millisBehindLatest=behind_ms)

    def close(self) -> None:
        self._to_host.put_nowait(None)


def position_of(message: dict[str, Any]) -> Position | None:
    """Of a checkpoint's message; None for nulls."""
    sequence = message["sequenceNumber"]
    return None if sequence is None else Position(int(sequence), message["subSequenceNumber"])
