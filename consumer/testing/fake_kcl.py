"""A fake of KCL's side of the protocol: it sends messages, waits for ``status``, and answers checkpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pybase64

from consumer.kcl.wire import Gone
from pipeline.record import Position

CHECKPOINTS_DURING = frozenset({"processRecords", "shardEnded", "shutdownRequested"})
"""KCL accepts checkpoints only while it waits for the status of one of these."""


class ProtocolBroken(AssertionError):
    """The host sent what KCL does not accept. The real KCL ends its JVM or does not answer; here the test fails."""


def row(
    sequence: int, data: bytes = b"{}", sub: int = 0, key: str | None = "key", arrived_ms: int = 1
) -> dict[str, Any]:
    """Return one record as MultiLang writes it. An aggregate is one record with sub-sequence number 0."""
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

    ``refusals`` has the errors of the next checkpoints, as names of KCL's exceptions. A violation of the protocol
    raises :class:`ProtocolBroken` in the host's call of :meth:`write`.
    """

    def __init__(self) -> None:
        self.checkpoints: list[Position | None] = []
        self.refusals: list[str] = []
        self.answered: list[str] = []
        self.asked = ""
        """The action that waits for its status, if any."""
        self._to_host: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._status = asyncio.Event()

    # -- the host's end

    async def read(self) -> bytes:
        """The next line for the host; see :class:`consumer.kcl.session.Wire`."""
        line = await self._to_host.get()
        if line is None:
            raise Gone
        return line

    async def write(self, line: bytes) -> None:
        """Take a line of the host.

        :raises ProtocolBroken: if KCL would not accept it now.
        """
        message = orjson.loads(line)
        if message["action"] == "status":
            if message["responseFor"] != self.asked:
                raise ProtocolBroken(f"a status for {message['responseFor']!r} in answer to {self.asked!r}")
            self.asked = ""
            self.answered.append(message["responseFor"])
            self._status.set()
        elif self.asked not in CHECKPOINTS_DURING:
            raise ProtocolBroken(f"a checkpoint in answer to {self.asked!r}")
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
        """Send a message and wait for its status."""
        self.begin(action, **fields)
        await self.answer()

    def begin(self, action: str, **fields: Any) -> None:
        """Send a message without waiting for its status."""
        self.asked = action
        self._status.clear()
        self._say({"action": action, **fields})

    async def answer(self) -> None:
        """Wait for the status of the last message."""
        await self._status.wait()

    async def initialize(self, shard_id: str, sequence: str = "TRIM_HORIZON", sub: int = 0) -> None:
        """Send ``initialize`` and wait for its status. ``sequence`` is the checkpoint or a sentinel."""
        await self.say("initialize", shardId=shard_id, sequenceNumber=sequence, subSequenceNumber=sub)

    async def process(self, rows: Sequence[dict[str, Any]], behind_ms: int = 0) -> None:
        """Send ``processRecords`` and wait for its status. :func:`row` makes the rows."""
        await self.say("processRecords", records=list(rows), millisBehindLatest=behind_ms)

    def close(self) -> None:
        """End the connection: the host's next read raises :class:`consumer.kcl.session.Gone`."""
        self._to_host.put_nowait(None)


def position_of(message: dict[str, Any]) -> Position | None:
    """Return the position of a checkpoint message; None if it has nulls."""
    sequence = message["sequenceNumber"]
    return None if sequence is None else Position(int(sequence), message["subSequenceNumber"])
