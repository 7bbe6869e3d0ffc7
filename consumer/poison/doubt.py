"""The note on a shard whose tasks have died, and what follows from it. Pure.

The note is stored on the shard's lease, so it survives every task. A task writes its name into it before it reads the
shard, and removes it when it ends normally. A name that is still there belongs to a task that died.

    in order ──a task dies──▶ watched ──another dies──▶ in doubt ──▶ read carefully ──▶ in order
                                 │                                        │
                                 └────── it is past what was there ◀──────┘

- *Watched* (one death): KCL reads the shard as usual, and each message is noted on the lease before it is processed.
- A death is cleared once everything that the dead task can have processed is durable.
- *In doubt* (:data:`DOUBTFUL` deaths): KCL does not read the shard. A task that reads nothing else reads it carefully,
  piece by piece. Each piece is noted before it is tried, and durable before the next one.
- At most one dead task can have processed records beyond ``met``, the position up to which a watched task had processed
  records. Pieces may be large there. If a task dies over a large piece, the next task tries it in small pieces. If a
  task dies over a small piece, the next task tries it record by record, without the records that are durable.
- A record is given up if one more death over it alone would exceed ``give_up_after_tasks``: it becomes a dead letter
  without being tried. An aggregate that kills while it is taken apart is given up as a whole; its position in a note is
  the end of its last user record. After a death over several aggregates, they are taken apart one by one, and their
  user records are not blamed.
- A record that an operator passes over (``skips``) is not tried either: its shard is read carefully until that record
  is durable as a dead letter.
- A careful reading may also fail before it tries a record: a read or a note is refused. No record is blamed for that.
  After :data:`HINDERED` such failures in a row KCL reads the shard again, watched. If another task then dies, the shard
  is read carefully again. So a failure of one way to read never blocks the other.

A record that kills every task therefore costs :data:`DOUBTFUL` tasks that read as usual, one that reads pieces, and the
tasks that try it alone: ``give_up_after_tasks`` in total. A harmless record is given up only if that many tasks die for
other reasons exactly while they try it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import orjson

from consumer.config.values import DOUBTFUL, REMEMBERED
from pipeline.record import LAST_SUB, Position

PIECE, MOST_PIECE, MOST_LARGE = 128, 256, 8_192
"""Records in a piece: at first, at most, and at most beyond ``met``. Each piece costs one flush and one or two writes
to the lease. If a task dies over a piece, each of its records (or small pieces) costs the same. A million records need
a few hundred flushes, and so does each death."""

QUICK_S = 2.0
"""Seconds for a piece below which the next one may be twice as large."""

HINDERED = 2
"""Careful readings in a row that failed without having tried a record, after which KCL reads the shard again."""

NOWHERE = Position(0, 0)

WORDLESS = "ended without a word"


class Death(NamedTuple):
    """A task that died while it read the shard: its worker id and, if it is known, the reason."""

    worker: str
    how: str


class Skip(NamedTuple):
    """A record that an operator skips, and why. The position of a whole Kinesis record is its end."""

    at: Position
    why: str

    def __str__(self) -> str:
        return str(self.at.sequence) if self.at.sub == LAST_SUB else f"{self.at.sequence}, user record {self.at.sub}"


@dataclass(frozen=True, slots=True)
class Doubt:
    """The note on a lease. An empty one means that the shard is in order and that no task reads it.

    - ``by``: the worker that reads the shard now.
    - ``read``: the position up to which a watched task has received messages from KCL.
    - ``met``: the position up to which it has passed user records to the model and the sinks.

    The other fields belong to careful reading:

    - ``passed``: everything up to here is durable.
    - ``first`` to ``last``: the records that are being tried.
    - ``apart``: up to here, aggregates are taken apart one by one.
    - ``wide``: up to here, records are tried in small pieces. ``narrow``: up to here, one by one.
    - ``suspect``: the record that was tried alone at each of the deaths ``alone``.
    - ``hindered``: the number of readings since the last death that failed before they tried a record.
    - ``skips``: the records that an operator passes over.
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
    skips: tuple[Skip, ...] = ()

    @property
    def watched(self) -> bool:
        """Whether a task has died, so that the reader must note what it processes."""
        return bool(self.deaths)

    @property
    def doubtful(self) -> bool:
        """Whether the shard must be read carefully."""
        return (len(self.deaths) >= DOUBTFUL or bool(self.skips)) and self.hindered < HINDERED

    # -- a session's life

    def begun(self, worker: str) -> Doubt:
        """The note when ``worker`` starts to read. Another worker that is still noted counts as dead."""
        before = self.died(self.by, WORDLESS) if self.by and self.by != worker else self
        return replace(before, by=worker, met=before.met or (NOWHERE if len(before.deaths) == 1 else None))

    def ended(self, worker: str) -> Doubt:
        """The note when ``worker`` stops reading and lives. Deaths that were attributed to it are removed."""
        if self.by == worker:
            kept = self.deaths or self.skips
            return replace(self, by="", first=None, last=None) if kept else Doubt()
        deaths = tuple(death for death in self.deaths if death.worker != worker)
        return replace(self, deaths=deaths, alone=tuple(death for death in self.alone if death.worker != worker))

    def died(self, worker: str, how: str) -> Doubt:
        """The note after the death of ``worker``. A careful reading that had tried nothing counts as hindered."""
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
        """The note after a careful reading that failed for a reason that is not a record's."""
        return replace(self, by="", first=None, last=None, hindered=self.hindered + 1)

    def reads(self, end: Position) -> Doubt:
        """The note before a session receives records up to ``end``."""
        return replace(self, read=end if self.read is None else max(self.read, end))

    def meets(self, last: Position) -> Doubt:
        """The note before a watched session processes user records up to ``last``."""
        return replace(self, met=last if self.met is None else max(self.met, last))

    def in_order(self) -> Doubt:
        """The note once everything that dead tasks may have processed is durable."""
        return Doubt(by=self.by, skips=self.skips)

    # -- an operator's request

    def with_skip(self, skip: Skip) -> Doubt:
        """The note with which the next task skips this record. No task reads the shard then."""
        others = tuple(each for each in self.skips if each.at != skip.at)
        return replace(self, by="", first=None, last=None, hindered=0, skips=(*others, skip))

    def without_skips(self, withdrawn: Sequence[Skip]) -> Doubt:
        """The note without these requests."""
        return replace(self, skips=tuple(each for each in self.skips if each not in withdrawn))

    def skipped(self, position: Position) -> Skip | None:
        """The operator's request that covers the record: for the record itself, or for the aggregate that it is part
        of."""
        places = (position, position.end_of_record)
        return next((skip for skip in self.skips if skip.at in places), None)

    def forgets(self, at: Position | None) -> Doubt:
        """The note without the requests for Kinesis records up to ``at``, which are durable as a whole."""
        left = tuple(skip for skip in self.skips if at is None or skip.at.end_of_record > at)
        return replace(self, skips=left)

    def together_whole(self, ahead: Sequence[Position]) -> int:
        """How many of the next Kinesis records may be taken apart together. A record that is to be skipped goes
        alone."""
        if self.opened_apart(ahead[0]) or self.skipped(ahead[0].end_of_record):
            return 1
        return next((n for n, at in enumerate(ahead) if self.skipped(at.end_of_record)), len(ahead))

    # -- a careful reader's steps

    def together(self, ahead: Sequence[Position], piece: int = PIECE) -> int:
        """How many of the next records may be tried together, at most ``piece``. ``ahead`` must not be empty."""
        first = ahead[0]
        most = 1 if self.one_by_one(first) else piece if self.large(first) else min(piece, MOST_PIECE)
        most = min(len(ahead), most)
        if self.skips:
            most = max(1, next((n for n in range(most) if self.skipped(ahead[n])), most))
        return most

    def large(self, first: Position) -> bool:
        """Whether a piece that starts at ``first`` may be large: at most one dead task can have processed it."""
        behind = [end for end in (self.met, self.wide, self.narrow) if end is not None]
        return self.met is not None and first > max(behind)

    def opened_apart(self, position: Position) -> bool:
        """Whether the aggregate at ``position`` must be taken apart on its own."""
        return self.apart is not None and position.end_of_record <= self.apart

    def one_by_one(self, position: Position) -> bool:
        """Whether the record at ``position`` must be tried alone."""
        return self.narrow is not None and position <= self.narrow

    def gives_up(self, position: Position, give_up_after: int) -> bool:
        """Whether the record is given up: one more death would exceed ``give_up_after`` tasks."""
        return position == self.suspect and len(self.alone) >= alone_at_most(give_up_after)

    def tries(self, first: Position, last: Position) -> Doubt:
        """The note before the records from ``first`` to ``last`` are tried, with nothing else in the task."""
        return replace(self, first=first, last=last)

    def passes(self, last: Position) -> Doubt:
        """The note once everything up to ``last`` is durable."""
        apart, wide, narrow = (_left(end, last) for end in (self.apart, self.wide, self.narrow))
        after = replace(self, passed=last, first=None, last=None, apart=apart, wide=wide, narrow=narrow, hindered=0)
        after = after.forgets(last)
        if after.suspect is not None and after.suspect <= last:
            after = replace(after, suspect=None, alone=())
        return after

    def past(self, beyond: int, reads_ahead: int) -> bool:
        """Whether everything that dead tasks can have processed has been passed.

        ``beyond``: the number of records passed after ``read``, or of all records passed if ``read`` is unknown.
        ``reads_ahead``: the maximum number of records that KCL reads ahead. The JVM may have died of one of them.
        """
        if self.skips or not self.deaths:
            return not self.skips
        return beyond >= reads_ahead and not any(getattr(self, name) for name in LEVELS)

    def why(self) -> str:
        """The distinct reasons for which tasks died, most recent last."""
        return "; ".join(dict.fromkeys(death.how for death in (self.alone or self.deaths)))


def piece_after(piece: int, seconds: float) -> int:
    """Return the size of the next piece after one that took ``seconds``.

    An aggregate may hold a million user records, which would take hours in small pieces. With a slow model, a task that
    leaves loses less work with small pieces.
    """
    if seconds < QUICK_S:
        return min(2 * piece, MOST_LARGE)
    return piece if seconds < 4 * QUICK_S else max(PIECE, piece // 2)


def _left(end: Position | None, passed: Position) -> Position | None:
    return end if end is not None and end > passed else None


def alone_at_most(give_up_after: int) -> int:
    """Return the number of tasks that may die while they try a record alone."""
    return give_up_after - DOUBTFUL - 1


LISTS = ("deaths", "alone")
SKIPS = "skips"
LEVELS = ("apart", "wide", "narrow")
POSITIONS = ("read", "met", "passed", "first", "last", *LEVELS, "suspect")


def written(doubt: Doubt) -> str:
    """Return the note as text for a lease; empty for an empty note."""
    fields: dict[str, Any] = {name: str(at) for name in POSITIONS if (at := getattr(doubt, name)) is not None}
    fields |= {"by": doubt.by} if doubt.by else {}
    fields |= {"hindered": doubt.hindered} if doubt.hindered else {}
    fields |= {name: [list(death) for death in found] for name in LISTS if (found := getattr(doubt, name))}
    fields |= {SKIPS: [[str(skip.at), skip.why] for skip in doubt.skips]} if doubt.skips else {}
    return orjson.dumps(fields).decode() if fields else ""


def parsed(text: str) -> Doubt:
    """Return the note that :func:`written` wrote. Text that cannot be parsed gives an empty note."""
    try:
        fields = orjson.loads(text or "{}")
        return Doubt(
            by=str(fields.get("by", "")),
            deaths=_deaths(fields.get("deaths", ())),
            alone=_deaths(fields.get("alone", ())),
            hindered=int(fields.get("hindered", 0)),
            skips=tuple(Skip(Position.parse(at), str(why)) for at, why in fields.get(SKIPS, ())),
            **{name: Position.parse(fields[name]) for name in POSITIONS if name in fields},
        )
    except (ValueError, TypeError, AttributeError):
        return Doubt()


def _deaths(found: Any) -> tuple[Death, ...]:
    return tuple(Death(str(worker), str(how)) for worker, how in found)
