"""A world in which everything that can go wrong with a shard's list of files does, as a seed decides.

Production's chain and files (:mod:`pipeline.sinks`) run on a store in memory; KCL, workers and time are models.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import orjson
import pyarrow as pa

from pipeline.record import Dead, Enriched, Position, Record, Shard
from pipeline.sinks.chain import Chain, File
from pipeline.sinks.parquet import Files
from pipeline.stores.base import Metadata, Retryable
from pipeline.stores.memory import MemoryStore
from pipeline.table.audit import audit
from pipeline.table.footer import LETTERS_SHA256, WRITER, previous_end_of
from pipeline.table.names import Names, first_of, letters_key
from pipeline.table.schema import TableSchema
from pipeline.table.staged_letters import Ledger, sha256_of
from tests.simulation.asked_once import ids

ROWS = pa.schema([("n", pa.int64())])
SCHEMA = TableSchema(ROWS, "events", "m")
DAY_MS = 24 * 60 * 60 * 1000
FIRST_MS = 1_795_000_000_000 // DAY_MS * DAY_MS
STEPS = 90
FLUSH_S = 20.0


class Crash(Exception):
    """The worker dies, at this call."""


class Bad(AssertionError):
    """A promise is broken."""


@dataclass(slots=True)
class Lease:
    owner: int = 0
    checkpoint: Position | None = None


@dataclass(slots=True)
class Session:
    """One worker's hold on a shard, or what the worker believes is one."""

    number: int
    shard: Shard
    chain: Chain
    files: Files
    checkpoint: Position | None
    next: int
    resumed: bool = False
    durable: Position | None = None
    pending: tuple[File, Callable[[], Position], str] | None = None


@dataclass
class World:
    """``committer``, ``chain``, ``ledger``: production's, or a mutant's. ``hasty``: checkpoints records that are not
    durable."""

    seed: int
    committer: type[Files] = Files
    chain: type[Chain] = Chain
    ledger: type[Ledger] = Ledger
    hasty: bool = False
    history: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.now = 0.0
        self.numbers = 0
        self.calm = False
        self.table, self.letters, self.staged = MemoryStore(), MemoryStore(), MemoryStore()
        for store in (self.table, self.letters, self.staged):
            store.before = self._before
            store.after = self._after
        self.shards = [Shard("events", 1, f"shardId-{number:012}") for number in range(self.random.randint(1, 3))]
        self.stream = {shard.shard_id: self._records(shard) for shard in self.shards}
        self.leases = {shard.shard_id: Lease() for shard in self.shards}
        self.sessions: list[Session] = []

    # -- the stream

    def _records(self, shard: Shard) -> list[Record]:
        """Records, some of them in aggregates. The day moves forward, and sometimes back for a while."""
        records: list[Record] = []
        sequence, ms = self.random.randint(1, 50), FIRST_MS
        for _ in range(self.random.randint(5, self._longest())):
            sequence += self.random.randint(1, 9)
            ms += self.random.choice([1, 1, 1, 1, DAY_MS, -DAY_MS])
            subs = self.random.choice([1, 1, 1, 2, 4])
            records += [
                Record(shard.shard_id, b"payload", "key", str(sequence), sub, ms, sub == subs - 1)
                for sub in range(subs)
            ]
        return records

    def _longest(self) -> int:
        """Most streams are short: each file costs time, and short lists show a fault as often as long ones."""
        return self.random.choice([10, 10, 25])

    def _settled(self, records: list[Record]) -> list[Record]:
        """Some records are always bad, some now and then."""
        table = pa.RecordBatch.from_arrays([pa.array(range(len(records)), pa.int64())], schema=ROWS)
        barren = self.random.random() < 0.15
        settled = []
        for row, record in enumerate(records):
            bad = barren or record.position.sequence % 5 == 0 or self.random.random() < 0.1
            outcome = Dead(b"payload", "bad", "", 1) if bad else Enriched(table, row)
            settled.append(replace(record, outcome=outcome))
        return settled

    # -- faults

    def _before(self, operation: str, key: str) -> None:
        self._perhaps(f"before {operation} {key}")

    def _after(self, operation: str, key: str) -> None:
        self._perhaps(f"after {operation} {key}")

    def _perhaps(self, where: str) -> None:
        drawn = 1.0 if self.calm else self.random.random()
        if drawn < 0.03:
            self._say(f"crash {where}")
            raise Crash
        if drawn < 0.12:
            self._say(f"no answer {where}")
            raise Retryable(where)

    def _say(self, what: str) -> None:
        self.history.append(f"{self.now:5.1f} {what}")

    # -- what happens

    def run(self) -> None:
        """Run the seed, then let healthy workers finish, and check every promise."""
        acts = [self._take, self._deliver, self._deliver, self._flush, self._flush, self._checkpoint, self._checkpoint]
        acts += [self._crash, self._move_back, self._wait, self._expire]
        weights = [4, 8, 8, 8, 8, 4, 4, 1, 1, 4, 1]
        for _ in range(STEPS):
            [act] = self.random.choices(acts, weights)
            act()
        self._finish()
        self._check()

    def _take(self) -> None:
        """A worker takes a free lease, or steals one; the old owner does not know yet."""
        shard = self.random.choice(self.shards)
        lease = self.leases[shard.shard_id]
        if any(session.number == lease.owner for session in self.sessions) and self.random.random() < 0.7:
            return
        self._open(shard)

    def _open(self, shard: Shard) -> Session:
        lease = self.leases[shard.shard_id]
        self.numbers += 1
        lease.owner = self.numbers
        names = Names(shard)
        chain = self.chain(names, flush_interval_s=FLUSH_S, flush_bytes=self.random.choice([500, 3000, 10**6]))
        files = self.committer(self.table, names, SCHEMA, self.ledger(self.letters, self.staged))
        records = self.stream[shard.shard_id]
        at = lease.checkpoint
        start = next((i for i, each in enumerate(records) if at is None or each.position > at), len(records))
        session = Session(self.numbers, shard, chain, files, at, start)
        self.sessions.append(session)
        self._say(f"worker {session.number} takes {shard.shard_id} after {at}")
        return session

    def _any(self) -> Session | None:
        return self.random.choice(self.sessions) if self.sessions else None

    def _deliver(self, session: Session | None = None) -> None:
        session = session or self._any()
        if session is None:
            return
        records = self.stream[session.shard.shard_id][session.next :]
        if not records:
            return
        count = self.random.randint(1, 8)
        while count < len(records) and not records[count - 1].whole:
            count += 1
        try:
            held = self._resume(session, records[0])
        except Retryable:
            return
        except Crash:
            self.sessions.remove(session)
            return
        fresh = [record for record in records[:count] if held is None or record.position > held]
        session.chain.add(self._settled(fresh), self.now)
        session.next += len(records[:count])

    def _resume(self, session: Session, first: Record) -> Position | None:
        if not session.resumed:
            held = session.files.held(first, session.checkpoint)
            session.chain.end = held or (session.checkpoint and session.checkpoint.end_of_record)
            session.durable = held
            session.resumed = True
        return session.chain.end

    def _flush(self, session: Session | None = None) -> None:
        session = session or self._any()
        if session is None:
            return
        if self.calm or self.random.random() < 0.3:
            session.chain.seal()
        try:
            if session.pending is None:
                file = session.chain.next(self.now)
                if file is None:
                    return
                writer = f"w{self.random.random()}"
                session.pending = (file, session.files.prepare(file, writer), writer)
            end = session.pending[1]()
        except Retryable:
            return
        except Crash:
            self.sessions.remove(session)
            return
        self._say(f"worker {session.number} wrote {session.pending[0].key}, the list reaches {end}")
        session.pending = None
        session.chain.written(end)
        session.durable = max(session.durable or end, end)

    def _checkpoint(self, session: Session | None = None) -> None:
        """KCL's rule: only the owner checkpoints, forward, and not beyond what was delivered."""
        session = session or self._any()
        if session is None or session.next == 0:
            return
        delivered = self.stream[session.shard.shard_id][session.next - 1].position
        position = delivered if self.hasty else self._last_whole(session)
        lease = self.leases[session.shard.shard_id]
        if position is None or position > delivered:
            return
        if lease.owner != session.number:
            self.sessions.remove(session)
            self._say(f"worker {session.number} learns that its lease is lost")
        elif lease.checkpoint is None or position > lease.checkpoint:
            self._expect_durable(session.shard, position)
            lease.checkpoint = position
            self._say(f"worker {session.number} checkpoints {position}")

    def _last_whole(self, session: Session) -> Position | None:
        """KCL's checkpoint is never inside an aggregate."""
        records = self.stream[session.shard.shard_id]
        whole = [
            each.position for each in records if each.whole and session.durable and each.position <= session.durable
        ]
        return max(whole, default=None)

    def _expire(self) -> None:
        """A lifecycle rule deletes staged objects of files whose dead letters are written, and those that no file
        names."""
        living = {session.pending[2] for session in self.sessions if session.pending}
        named = {}
        for key, (_, metadata) in self.table.objects.items():
            named[metadata[WRITER]] = self._is_complete(key, metadata)
        for key in list(self.staged.objects):
            writer = key.removesuffix(".jsonl")
            if writer not in living and named.get(writer, True):
                del self.staged.objects[key]

    def _is_complete(self, key: str, metadata: Metadata) -> bool:
        body, _ = self.letters.objects.get(letters_key(key), (b"", {}))
        return sha256_of(body) == metadata[LETTERS_SHA256]

    def _crash(self) -> None:
        if session := self._any():
            self.sessions.remove(session)
            self._say(f"worker {session.number} is killed")

    def _move_back(self) -> None:
        """An operator moves a checkpoint, or deletes the lease table; the owner of the lease becomes a zombie."""
        shard = self.random.choice(self.shards)
        lease = self.leases[shard.shard_id]
        if lease.checkpoint is None:
            return
        whole = [each.position for each in self.stream[shard.shard_id] if each.whole]
        earlier = [position for position in whole if position <= lease.checkpoint]
        lease.checkpoint = self.random.choice([None, *earlier])
        lease.owner = 0
        self._say(f"{shard.shard_id} is moved back to {lease.checkpoint}")

    def _wait(self) -> None:
        self.now += self.random.uniform(0, FLUSH_S)
        self._read()

    def _finish(self) -> None:
        self.calm = True
        for shard in self.shards:
            session = self._open(shard)
            for _ in self.stream[shard.shard_id]:
                self._deliver(session)
            for _ in self.stream[shard.shard_id]:
                self._flush(session)
            if len(session.chain):
                raise Bad(f"{shard.shard_id} does not drain")
            self._checkpoint(session)

    # -- what must hold

    def _lines(self) -> list[str]:
        bodies = [body for body, _ in self.letters.objects.values()]
        return [orjson.loads(line)["record_id"] for body in bodies for line in body.splitlines()]

    def _ids_of_the_stream(self) -> list[str]:
        return [record.record_id("events") for records in self.stream.values() for record in records]

    def _rows(self) -> list[str]:
        return [each for body, _ in self.table.objects.values() for each in ids(body)]

    def _read(self) -> None:
        """What a plain reader sees at any time."""
        rows = self._rows()
        if len(rows) != len(set(rows)):
            raise Bad("a reader sees a record twice")

    def _expect_durable(self, shard: Shard, position: Position) -> None:
        durable = {*self._rows(), *self._lines()}
        for record in self.stream[shard.shard_id]:
            if record.position <= position and record.record_id("events") not in durable:
                raise Bad(f"checkpoint {position} passes {record.position}, which is not durable")

    def _check(self) -> None:
        if sorted(self._rows() + self._lines()) != sorted(self._ids_of_the_stream()):
            raise Bad("not every record is exactly one row or one dead letter")
        self.calm = True
        if problems := audit(self.table, self.letters).problems:
            raise Bad(f"the auditor says {problems[0]}")
        self._lose_a_file()

    def _lose_a_file(self) -> None:
        """The auditor must notice if any file but a list's first and last is missing. The hardest case is a file with
        only the rest of an aggregate."""
        lists = [[key for key in self.table.objects if shard.shard_id in key] for shard in self.shards]
        inner = [pair for keys in lists for pair in pairwise(sorted(keys, key=first_of)[1:])]
        if not inner:
            return
        lost, _ = max(inner, key=lambda pair: (first_of(pair[0]).sub > 0, self._is_behind_a_checkpoint(pair[1])))
        del self.table.objects[lost]
        if not any(problem.kind == "gap" for problem in audit(self.table).problems):
            raise Bad(f"the auditor does not miss {lost}")
        self._repair()

    def _repair(self) -> None:
        """The checkpoints are moved back to before the lost file, and the sessions write it again."""
        for lease in self.leases.values():
            lease.checkpoint = None
        self._finish()
        self._read()
        if problems := audit(self.table).problems:
            raise Bad(f"the auditor says {problems[0]}, of a list that was repaired")
        if not {*self._rows(), *self._lines()}.issuperset(self._ids_of_the_stream()):
            raise Bad("what was lost is not written again")

    def _is_behind_a_checkpoint(self, key: str) -> bool:
        previous = previous_end_of(self.table.objects[key][1])
        return previous is not None and previous == previous.end_of_record
