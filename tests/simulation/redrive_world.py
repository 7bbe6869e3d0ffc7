"""The world of the chain, in which several commands also redrive dead letters, beside the writers.

Production's list of redriven rows and its notes run in it. Redrives crash, get no answer, and start again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import orjson
import pyarrow as pa

from pipeline.record import Dead, Enriched, Position, Record
from pipeline.stores.base import Metadata, Retryable
from pipeline.stores.memory import MemoryStore
from pipeline.table.audit import audit
from pipeline.table.footer import LETTERS_SHA256, is_redriven
from pipeline.table.names import Names
from pipeline.table.redrive_notes import Failure, RedriveNotes, failure_of
from pipeline.table.redriven import RedrivenRows
from pipeline.table.staged_letters import sha256_of
from tests.simulation.chain_world import ROWS, SCHEMA, STEPS, Bad, Crash, World

NOW = datetime(2026, 11, 27, tzinfo=UTC)
HOPELESS = 5
"""Records whose sequence number is a multiple of this fail every time."""


@dataclass
class Redriver:
    """A redrive of the letters of one object. ``steps``: what is left to do."""

    number: int
    steps: list[Callable[[], None]] = field(default_factory=list)
    acts: bool = False


@dataclass
class RedriveWorld(World):
    """``rows``: production's, or a mutant's. ``from_staged``: redrives staged letters, committed or not."""

    rows: type[RedrivenRows] = RedrivenRows
    from_staged: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.notes = MemoryStore()
        self.notes.before, self.notes.after = self._before, self._after
        self.redrivers: list[Redriver] = []
        self.crashed: set[str] = set()
        """Records whose failure was being noted at a crash: it may count or not."""
        self.within = False
        self.seen: set[str] = set()
        self.failed: Counter[str] = Counter()
        """By record: failures whose notes are answered."""

    def _longest(self) -> int:
        return 25

    def run(self) -> None:
        acts = [self._take, self._deliver, self._flush, self._checkpoint, self._crash, self._move_back, self._wait]
        acts += [self._expire, self._redrive, self._step, self._step]
        weights = [4, 16, 16, 8, 1, 1, 4, 1, 8, 16, 16]
        for _ in range(2 * STEPS):
            [act] = self.random.choices(acts, weights)
            act()
        self._finish()
        self._redrive_all()
        self._check()

    # -- what happens

    def _redrive(self) -> None:
        """A redrive reads an object of dead letters, and runs the model on the records that have no row yet."""
        self.numbers += 1
        redriver = Redriver(self.numbers)
        store = self.staged if self.from_staged else self.letters
        if not store.objects or len(self.redrivers) > 3:
            return
        few = self.random.choice([2, 2, None])
        key = self.random.choice(sorted(store.objects)[:few])
        try:
            self._plan(redriver, key, store)
        except (Retryable, Crash):
            return
        self.redrivers.append(redriver)

    def _plan(self, redriver: Redriver, key: str, store: MemoryStore) -> None:
        body = store.get(key) or b""
        records = [self._record(orjson.loads(line)) for line in body.splitlines()]
        if not records:
            return
        place = self._place(records[0])
        if not self.from_staged:
            head = self.table.head(key.removesuffix(".jsonl") + ".parquet")
            if head is None or head[LETTERS_SHA256] != sha256_of(body):
                raise Bad(f"{key} is named by no file")
        rows = self.rows(self.table, place, SCHEMA, now=lambda: NOW)
        held = rows.held()
        self._try(redriver, [record for record in records if record.position not in held], rows, place)

    def _place(self, record: Record) -> str:
        shard = next(each for each in self.shards if each.shard_id == record.shard_id)
        return Names(shard).day(record.arrived_ms).removesuffix("-")

    def _record(self, letter: dict[str, str | int]) -> Record:
        arrived_ms = round(datetime.fromisoformat(str(letter["arrived_at"])).timestamp() * 1000)
        position = Position(int(letter["sequence_number"]), int(letter["sub_sequence_number"]))
        return Record(str(letter["shard_id"]), b"", "key", str(position.sequence), position.sub, arrived_ms)

    def _try(self, redriver: Redriver, records: list[Record], rows: RedrivenRows, place: str) -> None:
        """The model decides. Two writes are left to do, which may be repeated."""
        table = pa.RecordBatch.from_arrays([pa.array(range(len(records)), pa.int64())], schema=ROWS)
        good, bad = [], []
        for row, record in enumerate(records):
            if record.position.sequence % HOPELESS == 0 or self.random.random() < 0.2:
                bad.append(replace(record, outcome=Dead(b"payload", "bad again", "", 1)))
            else:
                good.append(replace(record, outcome=Enriched(table, row)))
        writer = f"r{redriver.number}"
        notes = RedriveNotes(self.notes, place)
        failures = [failure_of(each, each.outcome, "m", NOW, writer) for each in bad if isinstance(each.outcome, Dead)]
        redriver.steps = [lambda: self._added(rows, good, writer), lambda: self._noted(notes, bad, failures)]

    def _added(self, rows: RedrivenRows, good: list[Record], writer: str) -> None:
        rows.add(good, writer)
        self._read()
        if not {record.record_id("events") for record in good} <= set(self._rows()):
            raise Bad("a row that is said to be written is not there")

    def _before(self, operation: str, key: str) -> None:
        """Others may act between the read of the list and the write."""
        super()._before(operation, key)
        if operation == "put" and "-redriven-" in key and not self.within and not self.calm:
            self.within = True
            for _ in range(self.random.randint(0, 4)):
                self._step()
            self.within = False

    def _noted(self, notes: RedriveNotes, bad: list[Record], failures: list[Failure]) -> None:
        try:
            notes.add(failures)
        except Crash:
            self.crashed.update(record.record_id("events") for record in bad)
            raise
        self.failed.update(record.record_id("events") for record in bad)

    def _step(self) -> None:
        if not self.redrivers:
            return
        redriver = self.random.choice(self.redrivers)
        if redriver.acts:
            return
        redriver.acts = True
        try:
            if redriver.steps:
                redriver.steps[0]()
                redriver.steps.pop(0)
        except Retryable:
            return
        except Crash:
            redriver.steps = []
        finally:
            redriver.acts = False
        if not redriver.steps:
            self.redrivers.remove(redriver)

    def _redrive_all(self) -> None:
        """A last, undisturbed redrive; those in progress continue afterwards."""
        self.calm = True
        for key in sorted(self.letters.objects):
            self.numbers += 1
            last = Redriver(self.numbers)
            self._plan(last, key, self.letters)
            for step in last.steps:
                step()
        while self.redrivers:
            self._step()

    # -- what must hold

    def _read(self) -> None:
        """Nothing that a reader has seen disappears."""
        super()._read()
        rows = set(self._rows())
        if not self.seen <= rows:
            raise Bad("a row is gone")
        self.seen = rows

    def _is_complete(self, key: str, metadata: Metadata) -> bool:
        return is_redriven(metadata) or super()._is_complete(key, metadata)

    def _check(self) -> None:
        """Each record is a row or a dead letter; a letter with a row is redriven; the others have their count."""
        self._read()
        rows, letters = set(self._rows()), self._lines()
        if rows | set(letters) != set(self._ids_of_the_stream()) or len(letters) != len(set(letters)):
            raise Bad("a record is neither row nor dead letter")
        redriven = rows & set(letters)
        report = audit(self.table, self.letters)
        if report.problems:
            raise Bad(f"the auditor says {report.problems[0]}")
        if (report.redriven, report.rows) != (len(redriven), len(rows)):
            raise Bad(f"the auditor counts {report.redriven} of {len(redriven)} redriven rows")
        hopeless = {each for each in letters if int(each.split("/")[2]) % HOPELESS == 0}
        if hopeless & redriven:
            raise Bad("what failed has a row")
        self._check_notes(set(letters) - redriven)

    def _check_notes(self, left: set[str]) -> None:
        noted: Counter[str] = Counter()
        for shard in self.shards:
            places = {key.rsplit("-", 1)[0] for key in self.notes.objects if shard.shard_id in key}
            for place in places:
                for position, failures in RedriveNotes(self.notes, place).failures().items():
                    noted[f"events/{shard.shard_id}/{position}"] += len(failures)
        if not all(noted[each] >= max(1, self.failed[each]) for each in left):
            raise Bad("a failure is not counted")
        if any(noted[each] != self.failed[each] for each in noted if each not in self.crashed):
            raise Bad("a failure is counted twice")
