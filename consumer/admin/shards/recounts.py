"""How often the count of a stream's shards was changed of late, and how long a change takes.

CloudTrail has the calls of everybody, some minutes late. This machine's own log has the calls of ``penstock shards`` at
once, and how long each took; it has nobody else's. It is a file of JSON lines, ``reshards.jsonl``, in
``$XDG_STATE_HOME/penstock`` (``~/.local/state/penstock``).
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

from consumer.admin.shards.planner import RECOUNTS_A_DAY, MergeShards, SplitShard, Step, UpdateShardCount

DAY_S = 86_400.0

SAME_S = 30.0
"""Clocks of CloudTrail and of this machine differ by less: two times so close are one call."""

FILE = "reshards.jsonl"


@dataclass(frozen=True, slots=True)
class Call:
    """A call of this machine's. ``took_s``: until the stream was ACTIVE again; None if nobody waited for that."""

    stream: str
    name: str
    at_s: float
    changes: int
    took_s: float | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """``left`` calls of UpdateShardCount at most, which Kinesis still takes; None if unknown. ``source`` says so."""

    left: int | None
    source: str
    next_s: float | None = None
    """When one more is possible."""


class Log:
    """This machine's own log of calls. It is kept as well as the disk allows: a call is worth more than its note."""

    def __init__(self, folder: Path | None = None) -> None:
        self.path = (folder or state_folder()) / FILE

    def begin(self, stream: str, step: Step, now_s: float) -> str:
        """Note a call before it is made. Returns its id, for :meth:`end`.

        :raises OSError: it cannot be noted.
        """
        call_id = uuid.uuid4().hex
        self._append(
            {"id": call_id, "stream": stream, "call": type(step).__name__, "at_s": now_s, "changes": changes(step)}
        )
        return call_id

    def end(self, call_id: str, *, took_s: float | None = None, refused: bool = False) -> None:
        """Note how it ended. ``refused``: Kinesis did not take it, so it counts for nothing."""
        self._append({"id": call_id, "refused": True} if refused else {"id": call_id, "took_s": took_s})

    def calls(self, stream: str) -> list[Call]:
        """Those on one stream (its ARN and the time it was made), oldest first; none if there is no log."""
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
    """Where programs keep what is worth keeping between runs (XDG base directories)."""
    said = os.environ.get("XDG_STATE_HOME", "")
    return (Path(said) if said else Path.home() / ".local" / "state") / "penstock"


def parsed(lines: Iterable[str], stream: str) -> list[Call]:
    """The calls on one stream in a log. Lines that are none of ours, or cut off, are passed over."""
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            said = json.loads(line)
            found.setdefault(str(said["id"]), {}).update(said)
    calls = [_call(said) for said in found.values() if said.get("stream") == stream and not said.get("refused")]
    return sorted(filter(None, calls), key=lambda call: call.at_s)


def _call(said: dict[str, Any]) -> Call | None:
    try:
        took_s = None if said.get("took_s") is None else float(said["took_s"])
        return Call(said["stream"], str(said["call"]), float(said["at_s"]), int(said["changes"]), took_s)
    except (ValueError, KeyError, TypeError):
        return None


def changes(step: Step) -> int:
    """How many shards a call opens or closes, which is what its time depends on."""
    return abs(step.count - step.before) if isinstance(step, UpdateShardCount) else 1


def budget(recorded: Sequence[float] | None, own: Sequence[Call], now_s: float) -> Budget:
    """From CloudTrail's times (None: not to be had) and this machine's calls. Pure."""
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
        return Budget(left, "by this machine's own log, which has nobody else's calls", next_s)
    return Budget(None, "CloudTrail cannot be read, and this machine has made no such call")


def seconds(steps: Sequence[Step], own: Sequence[Call]) -> float | None:
    """How long the steps will take, by what earlier calls on this stream took; None if there were none. Pure."""
    total = 0.0
    for step in steps:
        single = isinstance(step, SplitShard | MergeShards)
        names = {"SplitShard", "MergeShards"} if single else {"UpdateShardCount"}
        took = [call.took_s / max(1, call.changes) for call in own if call.name in names and call.took_s is not None]
        if not took:
            return None
        total += median(took) * max(1, changes(step))
    return total
