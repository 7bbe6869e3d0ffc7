"""How often a stream's number of shards was changed in the last 24 hours, and how long a change takes.

CloudTrail has the calls of all callers, with a delay of some minutes. This machine's own log has the calls of
``penstock shards`` at once, and how long each took, but no other calls. It is a file of JSON lines,
``reshards.jsonl``, in ``$XDG_STATE_HOME/penstock`` (``~/.local/state/penstock``).
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from consumer.admin.shards.changes import MergeShards, ReshardStep, SplitShard, UpdateShardCount
from consumer.admin.shards.scaling import RECOUNTS_A_DAY

DAY_S = 86_400.0

SAME_S = 30.0
"""Maximum difference between the clocks of CloudTrail and this machine: times closer than this are the same call."""

FILE = "reshards.jsonl"


@dataclass(frozen=True, slots=True)
class RecountCall:
    """A call made from this machine. ``took_s``: seconds until the stream was ACTIVE again; None if unknown."""

    stream: str
    name: str
    at_s: float
    changes: int
    took_s: float | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """``left``: how many calls of UpdateShardCount Kinesis still accepts at most; None if unknown."""

    left: int | None
    source: str
    next_s: float | None = None
    """When one more call is possible."""


class Log:
    """This machine's own log of calls. Best effort: a call is made even if it cannot be logged."""

    def __init__(self, folder: Path | None = None) -> None:
        self.path = (folder or state_folder()) / FILE

    def begin(self, stream: str, step: ReshardStep, now_s: float) -> str:
        """Note a call before it is made. Returns its id, for :meth:`end`.

        :raises OSError: it cannot be noted.
        """
        call_id = uuid.uuid4().hex
        self._append(
            {"id": call_id, "stream": stream, "call": type(step).__name__, "at_s": now_s, "changes": changes(step)}
        )
        return call_id

    def end(self, call_id: str, *, took_s: float | None = None, refused: bool = False) -> None:
        """Note how it ended. ``refused``: Kinesis refused the call, so it does not count."""
        self._append({"id": call_id, "refused": True} if refused else {"id": call_id, "took_s": took_s})

    def calls(self, stream: str) -> list[RecountCall]:
        """The calls on one stream (its ARN and creation time), oldest first; empty if there is no log."""
        try:
            lines = self.path.read_text().splitlines()
        except OSError:
            return []
        return parsed(lines, stream)

    def _append(self, said: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(said) + "\n")


def state_folder() -> Path:
    """The folder for state that programs keep between runs (XDG base directories)."""
    said = os.environ.get("XDG_STATE_HOME", "")
    return (Path(said) if said else Path.home() / ".local" / "state") / "penstock"


def parsed(lines: Iterable[str], stream: str) -> list[RecountCall]:
    """The calls on one stream in a log. Lines of another form, or cut off, are skipped."""
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            said = json.loads(line)
            found.setdefault(str(said["id"]), {}).update(said)
    calls = [_call(said) for said in found.values() if said.get("stream") == stream and not said.get("refused")]
    return sorted(filter(None, calls), key=lambda call: call.at_s)


def _call(said: dict[str, Any]) -> RecountCall | None:
    try:
        took_s = None if said.get("took_s") is None else float(said["took_s"])
        return RecountCall(said["stream"], str(said["call"]), float(said["at_s"]), int(said["changes"]), took_s)
    except (ValueError, KeyError, TypeError):
        return None


def changes(step: ReshardStep) -> int:
    """How many shards a call opens or closes; its duration depends on that."""
    return abs(step.count - step.before) if isinstance(step, UpdateShardCount) else 1


def budget(recorded: Sequence[float] | None, own: Sequence[RecountCall], now_s: float) -> Budget:
    """The calls left, from CloudTrail's times (None: not available) and this machine's calls. Pure."""
    ours = [call.at_s for call in own if call.name == "UpdateShardCount" and call.at_s > now_s - DAY_S]
    times = list(ours)
    if recorded is not None:
        theirs = [at_s for at_s in recorded if at_s > now_s - DAY_S]
        times = theirs + [at_s for at_s in ours if not any(abs(at_s - other) < SAME_S for other in theirs)]
    left = max(0, RECOUNTS_A_DAY - len(times))
    next_s = min(times) + DAY_S if not left else None
    if recorded is not None:
        return Budget(left, "by CloudTrail", next_s)
    if times:
        return Budget(left, "by this machine's own log, which does not have other callers", next_s)
    return Budget(None, "CloudTrail cannot be read, and this machine has made no such call")


def seconds(steps: Sequence[ReshardStep], own: Sequence[RecountCall]) -> float | None:
    """Estimate the duration of the steps from earlier calls on this stream; None if there were none. Pure."""
    total = 0.0
    for step in steps:
        single = isinstance(step, SplitShard | MergeShards)
        names = {"SplitShard", "MergeShards"} if single else {"UpdateShardCount"}
        took = [call.took_s / max(1, call.changes) for call in own if call.name in names and call.took_s is not None]
        if not took:
            return None
        total += median(took) * max(1, changes(step))
    return total
