"""Shows whether a replica works, with a witness: a record, or the model's example, that has passed before.

A failure says something about a record only if the replica works. A replica that leaks memory, has lost its device or
was spoiled by an earlier record fails any record. So a record's failure alone is believed only if a witness has passed
on the same replica since.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from pipeline.errors import ReplicaDied
from pipeline.model_process import frames
from pipeline.record import Fault
from pipeline.replicas.answers import Answer, Failed, Rows

WITNESSES = 3
WITNESS_BYTES = 256 * 1024
"""Bytes kept of payloads that have passed; larger payloads are not kept."""

FRESH_FAILURES = 3
"""After this many records failed on fresh replicas, while nothing has ever passed, the model itself is to blame."""

Ask = Callable[[str, Sequence[bytes]], Awaitable[Answer]]


class Witnesses:
    """Payloads that have passed, for requests of one kind; they pass on every replica that works."""

    def __init__(self, op: str) -> None:
        self._op = op
        self._payloads: deque[bytes] = deque(maxlen=WITNESSES)
        self._failures = 0
        self.has_example = False
        """Whether the model has an example; it passed when the replicas started."""

    @property
    def exist(self) -> bool:
        """Whether there is any witness."""
        return bool(self._payloads) or self.has_example

    def beside(self, payloads: Sequence[bytes]) -> tuple[str, Sequence[bytes]]:
        """Return a request for these payloads with a witness as its last item. There must be a witness."""
        if self._payloads:
            return self._op, [*payloads, self._payloads[-1]]
        return frames.BESIDE_EXAMPLE, payloads

    @property
    def nothing_has_passed(self) -> bool:
        """Whether nothing has ever passed, even on fresh replicas: failures are then believed at once."""
        return not self.exist and self._failures >= FRESH_FAILURES

    def passed(self, payload: bytes) -> None:
        """A record with this payload passed."""
        self._failures = 0
        if len(payload) <= WITNESS_BYTES and (not self._payloads or self._payloads[-1] != payload):
            self._payloads.append(payload)

    def failed_new(self) -> None:
        """A record failed alone on a fresh replica."""
        self._failures += 1

    async def pass_on(self, ask: Ask) -> bool | None:
        """Whether a witness passes where ``ask`` sends it; None if there is none. Raises what ``ask`` raises, such
        as ``ReplicaDied``.
        """
        requests = [(self._op, [payload]) for payload in reversed(self._payloads)]
        if self.has_example:
            requests.append(("example", []))
        for op, payloads in requests:
            try:
                answer = await ask(op, payloads)
            except ReplicaDied:
                return False
            if not isinstance(answer, Failed) and not answer.faults:
                return True
        return False if requests else None


def is_deliberate(fault: Fault) -> bool:
    """Whether the model refused this record with a ``Reject``, which a model does in any state."""
    return fault.kind == "rejected" or (fault.kind == "decode" and not fault.traceback)


def fails(answer: Answer) -> bool:
    """Whether the answer does not show that the replica works: no record passed, and none was refused by the model."""
    if isinstance(answer, Failed):
        return True
    count = answer.batch.num_rows + len(answer.faults) if isinstance(answer, Rows) else len(answer.costs)
    return 0 < count == len(answer.faults) and not all(map(is_deliberate, answer.faults.values()))
