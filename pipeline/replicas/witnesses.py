"""Whether a replica is well: whether it does with what it is known to do with.

A failure says something about a record only if the replica is shown to be well: one that leaks, that lost what it
computes with, or that an earlier record has spoilt fails whatever it is given. So what fails by itself is believed only
when another record, or the model's own example, has passed on the same replica since.
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
"""What is kept of records that have passed: so many of them, and none that is larger."""

HOPELESS = 3
"""So many records failed on replicas that had done nothing else, and nothing has ever passed: it is the model."""

Ask = Callable[[str, Sequence[bytes]], Awaitable[Answer]]


class Witnesses:
    """What has passed, for requests of one kind, and so passes on every replica that is well."""

    def __init__(self, op: str) -> None:
        self._op = op
        self._payloads: deque[bytes] = deque(maxlen=WITNESSES)
        self._failures = 0
        self.has_example = False
        """Whether the model has one, which passed when the replicas started."""

    @property
    def exist(self) -> bool:
        return bool(self._payloads) or self.has_example

    def beside(self, payloads: Sequence[bytes]) -> tuple[str, Sequence[bytes]]:
        """A request for these and, after them, one of what has passed. There must be one."""
        if self._payloads:
            return self._op, [*payloads, self._payloads[-1]]
        return frames.BESIDE_EXAMPLE, payloads

    @property
    def hopeless(self) -> bool:
        """Whether nothing has ever passed, though new replicas were tried: failures are then believed as they come."""
        return not self.exist and self._failures >= HOPELESS

    def passed(self, payload: bytes) -> None:
        self._failures = 0
        if len(payload) <= WITNESS_BYTES and (not self._payloads or self._payloads[-1] != payload):
            self._payloads.append(payload)

    def failed_new(self) -> None:
        """A record failed by itself on a replica that had done nothing else."""
        self._failures += 1

    async def pass_on(self, ask: Ask) -> bool | None:
        """Whether one of them passes where ``ask`` asks; None if there is none. ``ask`` may raise ``ReplicaDied``."""
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
    """Whether the model said by a ``Reject`` that it will not have this record, which it can say at any time."""
    return fault.kind == "rejected" or (fault.kind == "decode" and not fault.traceback)


def fails(answer: Answer) -> bool:
    """Whether nothing in it says that the replica is well: no record passed, and not because the model refused it."""
    if isinstance(answer, Failed):
        return True
    count = answer.batch.num_rows + len(answer.faults) if isinstance(answer, Rows) else len(answer.costs)
    return 0 < count == len(answer.faults) and not all(map(is_deliberate, answer.faults.values()))
