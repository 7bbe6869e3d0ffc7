"""What is known of a shard over which tasks have ended, and what follows from it. Pure.

It is written on the shard's lease, where it outlives every task: who reads the shard now is noted before it is handed
over and crossed off when that has come to a good end, so a note that nobody crossed off is a task that died.

    in order ──a task dies──▶ watched ──another dies──▶ in doubt ──▶ read carefully ──▶ in order
                                 │                                        │
                                 └────── it is past what was there ◀──────┘

- *Watched* (one death): it is read as ever, and each message is noted on the lease before it is taken.
- A death is forgiven once all is durable that the dead can have met: whoever got past it has not died of it.
- *In doubt* (:data:`DOUBTFUL` deaths): KCL does not get it. A task that reads nothing else reads it by itself, a
  piece at a time, each noted before it is tried and durable before the next.
- Beyond all that a watched task had let in (``met``), at most one of the dead can have met a record. So pieces may be
  large there: one over which a task dies is tried again in small ones. A small piece over which a task has died is
  tried again record by record, but for what turns out to be durable.
- A record that was by itself at so many deaths that no further task may die of it is given up: it becomes a dead letter
  without being tried. An aggregate that kills while it is taken apart is given up whole; it stands for itself as the
  place behind all that it holds. After a death over several, they are taken apart one by one; what they hold is blamed
  for nothing.
- A careful reader may also fail before it has a record in hand: a read is refused, or a note. That names no record, and
  blames none. After :data:`HINDERED` such failures in a row the shard is KCL's again, watched; if another task dies of
  it then, it is read carefully again. So neither way to read can keep a shard from the other.

So a record that kills whoever reads it costs :data:`DOUBTFUL` tasks that read as ever, one that reads pieces, and
those that have it by itself: ``give_up_after_tasks`` in all. A healthy record is never given up, unless tasks die of
something else each time while they have this very record by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import orjson

from consumer.config.values import DOUBTFUL, REMEMBERED
from pipeline.record import LAST_SUB, Position

PIECE, MOST_PIECE, MOST_LARGE = 128, 256, 8_192
"""Records that are tried together: at first, at most, and at most beyond what a watched task had met. Each piece costs
a flush and a write to the lease or two, and so does each of its records, or each small piece of a large one, if a task
dies of it: so a million records need a few hundred flushes, and each death as many."""

QUICK_S = 2.0

HINDERED = 2
"""Careful readings in a row that came to an end without having tried a record, from which on KCL reads the shard."""

NOWHERE = Position(0, 0)

WORDLESS = "ended without a word"


class Death(NamedTuple):
    """A task that ended while it read the shard: its worker id, and why, as far as it could say."""

    worker: str
    how: str


@dataclass(frozen=True, slots=True)
class Doubt:
    """The note on a lease. One that says nothing is a shard in order that nobody reads.

    ``by`` reads it now. ``read``: so far whoever notes it had taken it from KCL, at most; ``met``: so far it had let
    user records in to decode, model and sinks. The rest is a careful reader's: ``passed`` is durable, ``first`` to
    ``last`` are being tried, ``apart`` is the end of the aggregates that are to be taken apart one by one, ``wide`` of
    what is to be tried in small pieces, ``narrow`` of what is to be tried record by record, ``suspect`` was by itself
    at each of ``alone``, and ``hindered`` readings since the last death failed before they tried a record.
    """

    by: str = ""
    deaths: tuple[Death, ...] = ()
    read: Position | None = None
    met: Position | None = None
    passed: Position | None = None
    first: Position | None = None
    last: Position | None = None
    apart: Position | None = None
    wide: Position | None = None
    narrow: Position | None = None
    suspect: Position | None = None
    alone: tuple[Death, ...] = ()
    hindered: int = 0

    @property
    def watched(self) -> bool:
        """A task has died of late; the next one notes what it takes."""
        return bool(self.deaths)

    @property
    def doubtful(self) -> bool:
        """To be read carefully."""
        return len(self.deaths) >= DOUBTFUL and self.hindered < HINDERED

    # -- a session's life

    def begun(self, worker: str) -> Doubt:
        """Somebody is to read it. Whoever is still noted has died, if it is not this very worker."""
        before = self.died(self.by, WORDLESS) if self.by and self.by != worker else self
        return replace(before, by=worker, met=before.met or (NOWHERE if len(before.deaths) == 1 else None))

    def ended(self, worker: str) -> Doubt:
        """This worker reads it no more, and lives. Whoever has taken it for dead meanwhile was wrong."""
        if self.by == worker:
            return replace(self, by="", first=None, last=None) if self.deaths else Doubt()
        deaths = tuple(death for death in self.deaths if death.worker != worker)
        return replace(self, deaths=deaths, alone=tuple(death for death in self.alone if death.worker != worker))

    def died(self, worker: str, how: str) -> Doubt:
        """A task has ended over it. Where nothing was tried, that was a careful reader which is hindered, or KCL."""
        if (self.first is None or self.last is None) and self.doubtful:
            return self.hinders()
        death = Death(worker, how)
        deaths = (*self.deaths, death)[-REMEMBERED:]
        after = replace(self, by="", deaths=deaths, first=None, last=None, hindered=0)
        if self.first is None or self.last is None:
            return after
        if self.first != self.last:
            if self.first.sub == LAST_SUB:
                return replace(after, apart=self.last)
            return replace(after, wide=self.last) if self.large(self.first) else replace(after, narrow=self.last)
        before = self.alone if self.suspect == self.first else ()
        return replace(after, suspect=self.first, alone=(*before, death)[-REMEMBERED:])

    def hinders(self) -> Doubt:
        """A careful reading has failed of itself, whatever record it had in hand."""
        return replace(self, by="", first=None, last=None, hindered=self.hindered + 1)

    def reads(self, end: Position) -> Doubt:
        """A session is about to take records up to here."""
        return replace(self, read=end if self.read is None else max(self.read, end))

    def meets(self, last: Position) -> Doubt:
        """A watched session is about to let user records in, up to here."""
        return replace(self, met=last if self.met is None else max(self.met, last))

    def in_order(self) -> Doubt:
        """Past everything that those who died may have died of."""
        return Doubt(by=self.by)

    # -- a careful reader's steps

    def together(self, ahead: Sequence[Position], piece: int = PIECE) -> int:
        """How many of the next records, which must not be none, may be tried together; no more than ``piece``."""
        first = ahead[0]
        most = 1 if self.one_by_one(first) else piece if self.large(first) else min(piece, MOST_PIECE)
        return min(len(ahead), most)

    def large(self, first: Position) -> bool:
        """Whether a piece that begins there may be large: at most one of the dead can have met it."""
        behind = [end for end in (self.met, self.wide, self.narrow) if end is not None]
        return self.met is not None and first > max(behind)

    def opened_apart(self, position: Position) -> bool:
        """Whether the aggregate there is to be taken apart by itself."""
        return self.apart is not None and position.end_of_record <= self.apart

    def one_by_one(self, position: Position) -> bool:
        """Whether the record there is to be tried by itself."""
        return self.narrow is not None and position <= self.narrow

    def condemned(self, position: Position, give_up_after: int) -> bool:
        """Whether the record is given up: with one more task that died of it there would be too many."""
        return position == self.suspect and len(self.alone) >= alone_at_most(give_up_after)

    def tries(self, first: Position, last: Position) -> Doubt:
        """These are about to be tried, and nothing else in the whole task."""
        return replace(self, first=first, last=last)

    def passes(self, last: Position) -> Doubt:
        """Everything up to here is durable."""
        apart, wide, narrow = (_left(end, last) for end in (self.apart, self.wide, self.narrow))
        after = replace(self, passed=last, first=None, last=None, apart=apart, wide=wide, narrow=narrow, hindered=0)
        if after.suspect is not None and after.suspect <= last:
            after = replace(after, suspect=None, alone=())
        return after

    def past(self, beyond: int, reads_ahead: int) -> bool:
        """Whether nothing is left of what those who died can have met.

        ``beyond``: records passed after ``read``, or all of them if that is not known. ``reads_ahead``: those that KCL
        has read and not handed over, at most; a task may die of what it has not yet noted, and the JVM of these.
        """
        return beyond >= reads_ahead and not any(getattr(self, name) for name in LEVELS)

    def why(self) -> str:
        """The ways in which tasks ended, most recent last, each once."""
        return "; ".join(dict.fromkeys(death.how for death in (self.alone or self.deaths)))


def piece_after(piece: int, seconds: float) -> int:
    """How large the next piece may be, after one that took so long. An aggregate may hold a million user records, which
    would be hours in small pieces; where the model is slow, small ones lose less to a task that leaves."""
    if seconds < QUICK_S:
        return min(2 * piece, MOST_LARGE)
    return piece if seconds < 4 * QUICK_S else max(PIECE, piece // 2)


def _left(end: Position | None, passed: Position) -> Position | None:
    return end if end is not None and end > passed else None


def alone_at_most(give_up_after: int) -> int:
    """How many tasks may die of a record that they have by itself."""
    return give_up_after - DOUBTFUL - 1


LISTS = ("deaths", "alone")
LEVELS = ("apart", "wide", "narrow")
POSITIONS = ("read", "met", "passed", "first", "last", *LEVELS, "suspect")


def written(doubt: Doubt) -> str:
    """As it lies on a lease; empty for one that says nothing."""
    fields: dict[str, Any] = {name: str(at) for name in POSITIONS if (at := getattr(doubt, name)) is not None}
    fields |= {"by": doubt.by} if doubt.by else {}
    fields |= {"hindered": doubt.hindered} if doubt.hindered else {}
    fields |= {name: [list(death) for death in found] for name in LISTS if (found := getattr(doubt, name))}
    return orjson.dumps(fields).decode() if fields else ""


def parsed(text: str) -> Doubt:
    """What :func:`written` wrote. What is no such thing says nothing: it is a note, and no more."""
    try:
        fields = orjson.loads(text or "{}")
        return Doubt(
            by=str(fields.get("by", "")),
            deaths=_deaths(fields.get("deaths", ())),
            alone=_deaths(fields.get("alone", ())),
            hindered=int(fields.get("hindered", 0)),
            **{name: Position.parse(fields[name]) for name in POSITIONS if name in fields},
        )
    except (ValueError, TypeError, AttributeError):
        return Doubt()


def _deaths(found: Any) -> tuple[Death, ...]:
    return tuple(Death(str(worker), str(how)) for worker, how in found)
