"""Whether workers began to read again where a rewind put their leases. Pure.

KCL reads a lease eventually consistent when it begins with a shard, so that it may begin where the lease was before. A
session reports the checkpoint that KCL gave it. It has to be the one that was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from consumer.admin.replay.rewind import SHARD_END, Checkpoint, Move
from pipeline.record import Position


@dataclass(frozen=True, slots=True)
class RewindCheck:
    """``right``: shards that began at the target. ``wrong``: where others began. ``unknown``: shards of which no worker
    has said it yet, such as children of a shard that is being read."""

    right: tuple[str, ...] = ()
    wrong: Mapping[str, str] | None = None
    unknown: tuple[str, ...] = ()

    @property
    def all_right(self) -> bool:
        """Every shard is known to have begun at the target."""
        return not self.wrong and not self.unknown


class RewindWatch:
    """Compares the targets of a rewind with what workers report, look by look."""

    def __init__(self, moves: tuple[Move, ...]) -> None:
        self._targets = {move.shard_id: move.then for move in moves if move.then != SHARD_END}
        self._right: set[str] = set()

    def look(self, began: Mapping[str, str]) -> RewindCheck:
        """``began``: by shard, the checkpoint after which its present session began. What was right stays so: another
        worker may have the shard since."""
        self._right |= {shard_id for shard_id, at in began.items() if self._is_right(shard_id, at)}
        left = self._targets.keys() - self._right
        wrong = {shard_id: began[shard_id] for shard_id in sorted(left) if began.get(shard_id)}
        return RewindCheck(tuple(sorted(self._right)), wrong, tuple(sorted(left - wrong.keys())))

    def _is_right(self, shard_id: str, at: str) -> bool:
        target = self._targets.get(shard_id)
        return target is not None and at.partition("/")[0] == _named(target)


def _named(checkpoint: Checkpoint) -> str:
    return str(checkpoint.sequence) if isinstance(checkpoint, Position) else checkpoint
