"""Decides whether a lost device is the fault of the record that was tried, or of the device."""

from __future__ import annotations

import asyncio
import re

from pipeline.errors import Fatal, ReplicaDied
from pipeline.outages import Component
from pipeline.replicas.pool import START, Pool

CAUSE = re.compile(r"CUDA error: [A-Za-z -]{1,60}")
"""The text of ``cudaGetErrorString``. The rest of the exception's text is the model's and may contain a payload."""


class DeviceCheck:
    """Judges faults of the device that replicas compute on.

    Such a fault spoils every later call of its process. A record is blamed only if two conditions hold. The device was
    lost with this record alone, on fresh replicas, as often as a record may fail. And a record that has passed before
    passes on the next replica. Otherwise nothing is blamed: the record is tried again, with pauses, until the device
    has failed for so long that the task ends.
    """

    def __init__(self, part: Component) -> None:
        self._part = part
        self._witness: bytes | None = None

    def passed(self, payload: bytes) -> None:
        """Note that a record with this payload was enriched; it becomes the record to check the device with."""
        self._witness = payload
        self._part.worked()

    async def works(self, pool: Pool, reason: str) -> bool:
        """Whether the device works for another record, after it was lost as ``reason`` says. If not, return after a
        pause.

        Only the :data:`CAUSE` within ``reason`` is shown.

        :raises Fatal: the device has failed for ``model.give_up_after_s``, or no replica starts.
        """
        if self._witness is not None and await _passes(pool, self._witness):
            self._part.worked()
            return True
        cause = CAUSE.search(reason)
        shown = f"replica lost its device: {cause.group().strip()}" if cause else "replica lost its device"
        if self._part.failed(f"{shown}; other records fail, too"):
            lasted_s = self._part.trouble().lasted_s
            raise Fatal(f"{shown}; no record has passed since, for {lasted_s:.0f} s (model.give_up_after_s)")
        await asyncio.sleep(START.wait_in(self._part.trouble()))
        return False


async def _passes(pool: Pool, payload: bytes) -> bool:
    try:
        answer = await pool.call("predict", [payload])
    except ReplicaDied:
        return False
    return answer.op == "rows" and not answer.faults
