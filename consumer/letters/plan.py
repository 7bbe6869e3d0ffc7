"""Plans a redrive: which letters are tried again, and why others are not. Reads only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from consumer.letters.letter import Letter, LetterFilter, LetterObject, objects
from pipeline.aggregate import KIND as AGGREGATE
from pipeline.kpl import MAGIC
from pipeline.record import Position
from pipeline.stores.base import ObjectStore
from pipeline.table.footer import LETTERS_SHA256, footer_in, is_ours
from pipeline.table.redrive_notes import Failure, RedriveNotes
from pipeline.table.redriven import positions_in, redriven_keys
from pipeline.table.staged_letters import sha256_of

WAITS, REDRIVEN, AGAIN, CANNOT = "waits", "redriven", "failed again", "cannot be redriven"
"""The states of a letter. ``AGAIN``: at least one redrive has failed."""

NOT_NAMED = "no file of the table names it: it is another table's, or was changed"
NO_PAYLOAD = "its payload is not in the letter. While the stream retains the record, `penstock replay` reads it again"
IS_AGGREGATE = "its payload is an aggregate of the KPL that cannot be read, and no record"
HAS_ROW = "its record has a row in the table: only {sink} could not carry it"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``state`` is one of :data:`WAITS`, :data:`REDRIVEN`, :data:`AGAIN`, :data:`CANNOT`; ``why`` explains the last
    one."""

    state: str
    why: str = ""
    failures: tuple[Failure, ...] = ()


@dataclass(slots=True)
class LetterJudge:
    """Determines the states of letters, from the table and from the notes of redrives that failed.

    Reads the table once for each object of letters, and once for each day of a shard.
    """

    table: ObjectStore
    notes: ObjectStore
    _place: str = ""
    _held: set[Position] = field(default_factory=set)
    _failures: dict[Position, list[Failure]] = field(default_factory=dict)

    def verdicts(self, of: LetterObject) -> Iterator[tuple[Letter, Verdict]]:
        """Yield each letter of the object with its state."""
        named = self._is_named(of)
        if of.place != self._place:
            self._place = of.place
            self._held = {each for key in redriven_keys(self.table, of.place) for each in positions_in(self.table, key)}
            self._failures = RedriveNotes(self.notes, of.place).failures()
        for letter in of.letters():
            yield letter, self._verdict(of, letter, named)

    def _verdict(self, of: LetterObject, letter: Letter, named: bool) -> Verdict:
        if why := obstacle(letter, of.match["sink"] or ""):
            return Verdict(CANNOT, why)
        if not named:
            return Verdict(CANNOT, NOT_NAMED)
        failures = tuple(self._failures.get(letter.position, ()))
        if letter.position in self._held:
            return Verdict(REDRIVEN, failures=failures)
        return Verdict(AGAIN if failures else WAITS, failures=failures)

    def _is_named(self, of: LetterObject) -> bool:
        """Whether a committed file of the table names these letters, unchanged."""
        metadata = self.table.head(of.table_file)
        if metadata is not None and not is_ours(metadata):
            metadata = footer_in(self.table, of.table_file)
        return metadata is not None and metadata.get(LETTERS_SHA256) == sha256_of(of.body)


def obstacle(letter: Letter, sink: str = "") -> str:
    """Return why the letter cannot be redriven, whatever the table says; empty if it can."""
    if sink:
        return HAS_ROW.format(sink=letter.said.get("sink") or sink)
    if not letter.payload and letter.said["kind"] in {"sink", "killed"}:
        return NO_PAYLOAD
    if letter.said["kind"] == AGGREGATE or letter.payload.startswith(MAGIC):
        return IS_AGGREGATE
    return ""


@dataclass(slots=True)
class RedrivePiece:
    """The letters of one object to redrive, by their places in it. ``sha256``: of its body when it was planned."""

    key: str
    place: str
    sha256: str
    positions: list[Position]


@dataclass(slots=True)
class RedrivePlan:
    """The letters to redrive. ``kinds``: number of letters by kind and state. ``skipped``: those that failed again with
    the present model version, which are tried only with ``again``. ``cannot``: how many cannot be redriven, by reason.
    ``bytes``: of payloads."""

    pieces: list[RedrivePiece] = field(default_factory=list)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    cannot: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    records: int = 0
    bytes: int = 0

    @property
    def places(self) -> int:
        """Number of days of shards that get at least one file of rows."""
        return len({piece.place for piece in self.pieces})


def plan(
    letters: ObjectStore,
    judge: LetterJudge,
    chosen: LetterFilter,
    *,
    model_version: str,
    again: bool = False,
    tell: Callable[[int], None] = lambda letters: None,
) -> RedrivePlan:
    """Read every selected letter, and plan. ``again``: also try those that failed again with this model version.
    ``tell`` is called with the number of letters read. Memory holds one object of letters, and the places in the plan.
    """
    found = RedrivePlan()
    for of in objects(letters, chosen):
        positions = []
        for letter, verdict in judge.verdicts(of):
            if not chosen.wants(letter):
                continue
            tell(1)
            found.kinds[str(letter.said["kind"]), verdict.state] += 1
            if verdict.state == CANNOT:
                found.cannot[verdict.why] += 1
            elif verdict.state == REDRIVEN:
                continue
            elif not again and any(each.model_version == model_version for each in verdict.failures):
                found.skipped += 1
            else:
                positions.append(letter.position)
                found.bytes += len(letter.payload)
        if positions:
            found.pieces.append(RedrivePiece(of.key, of.place, sha256_of(of.body), positions))
            found.records += len(positions)
    return found
