"""Whose fault a lost device is: the record's that was tried, or the device's."""

from __future__ import annotations

import asyncio
import re

from pipeline.errors import Fatal, ReplicaDied
from pipeline.outages import Component
from pipeline.replicas.pool import START, Pool

CAUSE = re.compile(r"CUDA error: [A-Za-z -]{1,60}")
"""As ``cudaGetErrorString`` puts it. The rest of the exception's text is the model's, and may hold a payload."""


class DeviceCheck:
    """What the replicas compute on. A fault on it spoils every later call of its process, whatever the record.

    So a lost device is about a record only if it was lost with that record alone, on replicas that had not lost it,
    as often as a record may fail, and if a record that has passed before passes on the next replica. Otherwise nobody
    is to blame: the record is tried again, with pauses, until the device has been lost for so long that the task ends.
    """

    def __init__(self, part: Component) -> None:
        self._part = part
        self._witness: bytes | None = None

    def passed(self, payload: bytes) -> None:
        """A record with this payload was enriched."""
        self._witness = payload
        self._part.worked()

    async def works(self, pool: Pool, reason: str) -> bool:
        """Whether it does for another record, now that it was lost as ``reason`` says. If not, after a pause.

        Of the reason no more is shown than its :data:`CAUSE`.

        ``Fatal`` once that has lasted too long, or if no replica starts again.
        """
        if self._witness is not None and await _passes(pool, self._witness):
            self._part.worked()
            return True
        cause = CAUSE.search(reason)
        shown = f"replica lost its device: {cause.group().strip()}" if cause else "replica lost its device"
        if self._part.failed(f"{shown}; no other record passes either"):
            lasted_s = self._part.trouble().lasted_s
            raise Fatal(f"{shown}, and no other record has passed for {lasted_s:.0f} s (model.give_up_after_s)")
        await asyncio.sleep(START.wait_in(self._part.trouble()))
        return False


async def _passes(pool: Pool, payload: bytes) -> bool:
    try:
        answer = await pool.call("predict", [payload])
    except ReplicaDied:
        return False
    return answer.op == "rows" and not answer.faults
